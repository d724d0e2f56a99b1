package cache

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
)

// Repository is a repository of a Cache in the shapes of oras-go: ReadOnlyGraphTarget,
// registry.ReferenceFetcher and registry.TagLister, so that oras.Copy, oras.ExtendedCopy
// and their kin read through the cache. It is safe for concurrent use.
type Repository struct {
	cache *Cache
	name  string
}

// Repository returns the local repository of that name. The name is checked when the
// Repository is used.
func (c *Cache) Repository(name string) *Repository { return &Repository{c, name} }

// Resolve returns the descriptor of a tag or digest.
func (r *Repository) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	return r.cache.Resolve(ctx, r.name, reference)
}

// Fetch returns the content of a descriptor, as Manifest or Blob do.
func (r *Repository) Fetch(ctx context.Context, target ocispec.Descriptor) (io.ReadCloser, error) {
	if store.IsManifest(target.MediaType) {
		_, body, err := r.FetchReference(ctx, target.Digest.String())
		return body, err
	}
	_, body, err := r.cache.Blob(ctx, r.name, target.Digest)
	if e, ok := err.(*Error); ok && e.Status == http.StatusNotFound { // it may be a manifest of an unknown type
		if _, body, err := r.FetchReference(ctx, target.Digest.String()); err == nil {
			return body, nil
		}
	}
	return body, err
}

// FetchReference returns the manifest of a tag or digest.
func (r *Repository) FetchReference(ctx context.Context, reference string) (ocispec.Descriptor, io.ReadCloser, error) {
	desc, body, err := r.cache.Manifest(ctx, r.name, reference)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return desc, io.NopCloser(bytes.NewReader(body)), nil
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
	if e, ok := err.(*Error); ok && e.Status == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// tagsAtOnce is how many tags Tags gives its function at once.
const tagsAtOnce = 1000

// Tags calls fn with the tags of the repository after last, or all if last is empty,
// some at a time, until fn returns an error.
func (r *Repository) Tags(ctx context.Context, last string, fn func(tags []string) error) error {
	var page []string
	for tag, err := range r.cache.Tags(ctx, r.name, last) {
		if err != nil {
			return err
		}
		if page = append(page, tag); len(page) == tagsAtOnce {
			if err := fn(page); err != nil {
				return err
			}
			page = nil
		}
	}
	if len(page) == 0 {
		return nil
	}
	return fn(page)
}

// Predecessors returns the manifests that refer to a manifest.
func (r *Repository) Predecessors(ctx context.Context, node ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var all []ocispec.Descriptor
	for desc, err := range r.cache.Referrers(ctx, r.name, node.Digest, "") {
		if err != nil {
			return nil, err
		}
		all = append(all, desc)
	}
	return all, nil
}

// statBlob is HEAD for a blob.
func (c *Cache) statBlob(ctx context.Context, repository string, d digest.Digest) error {
	e := c.engine()
	repo, err := e.nameDigest(ctx, AccessBlob, repository, d)
	if err != nil {
		return err
	}
	a := e.statBlob(ctx, repo, d)
	defer a.close()
	if a.err != nil {
		return failure(repo.Repo, AccessBlob, d.String(), a.err)
	}
	return nil
}
