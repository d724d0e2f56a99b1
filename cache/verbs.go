package cache

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/ociname"
	"github.com/pullthrough/pullthrough/internal/route"
)

// Resolve returns the descriptor of a tag or digest, as a HEAD would: nothing
// is copied. Errors are [*Error].
func (c *Cache) Resolve(ctx context.Context, repository, reference string) (ocispec.Descriptor, error) {
	a, err := c.pull(ctx, repository, reference, true)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return a.man.Descriptor, nil
}

// Manifest returns a manifest by tag or digest, as a GET would: what is not
// complete here is copied behind it. The bytes must not be changed. Errors are
// [*Error].
func (c *Cache) Manifest(ctx context.Context, repository, reference string) (ocispec.Descriptor, []byte, error) {
	a, err := c.pull(ctx, repository, reference, false)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return a.man.Descriptor, a.man.Body, nil
}

// pull is what both have in common with the handler.
func (c *Cache) pull(ctx context.Context, repository, reference string, head bool) (answer, error) {
	e := c.engine()
	r, d, err := e.name(ctx, AccessManifest, repository, reference)
	if err != nil {
		return answer{}, err
	}
	var a answer
	if d != "" {
		a = e.byDigest(ctx, r, d, head)
	} else {
		a = e.byTag(ctx, r, reference, head)
	}
	if a.err != nil {
		return answer{}, failure(r.Repo, AccessManifest, reference, a.err)
	}
	return a, nil
}

// name checks names that come from Go and finds the repository.
func (e *engine) name(ctx context.Context, k AccessKind, name, reference string) (repository, digest.Digest, error) {
	d, err := route.Reference(name, reference)
	if err != nil {
		return repository{}, "", routeError(err)
	}
	began := time.Now()
	found, err := e.origins.Find(ctx, name)
	r := repository{Repo: found.Under(ctx), began: began}
	if err != nil {
		return r, d, failure(r.Repo, k, reference, err)
	}
	return r, d, nil
}

// nameDigest is name for content that has no tags.
func (e *engine) nameDigest(ctx context.Context, k AccessKind, name string, d digest.Digest) (repository, error) {
	if route.ValidName(name) && !ociname.ValidDigest(d.String()) {
		return repository{}, routeError(route.ErrDigest)
	}
	r, _, err := e.name(ctx, k, name, d.String())
	return r, err
}

// Blob returns a blob, as a GET would. A reader that ends early with an error
// has not given all bytes; the last ones are only given when the digest has
// matched. The size is -1 if it is unknown. Errors are [*Error].
func (c *Cache) Blob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, io.ReadCloser, error) {
	e := c.engine()
	r, err := e.nameDigest(ctx, AccessBlob, repository, d)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	a := e.blob(ctx, r, d)
	if a.err != nil {
		a.close()
		return ocispec.Descriptor{}, nil, failure(r.Repo, AccessBlob, d.String(), a.err)
	}
	desc := ocispec.Descriptor{MediaType: octetStream, Digest: d, Size: a.size}
	if a.file != nil {
		return desc, a.file, nil
	}
	return desc, a.reader(ctx), nil
}

// reader turns a flight, which writes, into something to read from.
func (a blobAnswer) reader(ctx context.Context) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	go func() {
		defer a.close()
		_, err := a.flight.Send(ctx, w, nil, 0, a.size, true)
		_ = w.CloseWithError(err)
	}()
	return &pipe{r, cancel}
}

type pipe struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (p *pipe) Close() error {
	p.cancel()
	return p.PipeReader.Close()
}
