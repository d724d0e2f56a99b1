package cache

import (
	"bytes"
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
)

// Repository is a repository of a Cache in the shape of oras-go's
// ReadOnlyTarget, so that oras.Copy and its kin read through the cache. It is
// safe for concurrent use.
type Repository struct {
	cache *Cache
	name  string
}

// Repository returns the local repository of that name. Nothing is checked
// before it is used.
func (c *Cache) Repository(name string) *Repository { return &Repository{c, name} }

// Resolve returns the descriptor of a tag or digest.
func (r *Repository) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	return r.cache.Resolve(ctx, r.name, reference)
}

// Fetch returns the content of a descriptor, as Manifest or Blob do.
func (r *Repository) Fetch(ctx context.Context, target ocispec.Descriptor) (io.ReadCloser, error) {
	if store.IsManifest(target.MediaType) {
		_, body, err := r.cache.Manifest(ctx, r.name, target.Digest.String())
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(body)), nil
	}
	_, body, err := r.cache.Blob(ctx, r.name, target.Digest)
	if e, ok := err.(*Error); ok && e.Status == 404 { // it may be a manifest whose type nobody knows
		if _, body, err := r.cache.Manifest(ctx, r.name, target.Digest.String()); err == nil {
			return io.NopCloser(bytes.NewReader(body)), nil
		}
	}
	return body, err
}

// Exists reports whether the content can be fetched. [Error]s with status 404
// are false, others are returned.
func (r *Repository) Exists(ctx context.Context, target ocispec.Descriptor) (bool, error) {
	var err error
	if store.IsManifest(target.MediaType) {
		_, err = r.Resolve(ctx, target.Digest.String())
	} else {
		err = r.cache.statBlob(ctx, r.name, target.Digest)
	}
	if e, ok := err.(*Error); ok && e.Status == 404 {
		return false, nil
	}
	return err == nil, err
}

// statBlob is HEAD for a blob.
func (c *Cache) statBlob(ctx context.Context, repository string, d digest.Digest) error {
	e := c.engine()
	repo, d, err := e.name(ctx, kindBlob, repository, d.String())
	if err != nil {
		return err
	}
	a := e.statBlob(ctx, repo, d)
	defer a.close()
	if a.err != nil {
		return failure(repo.Repo, kindBlob, d.String(), a.err)
	}
	return nil
}
