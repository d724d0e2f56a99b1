package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/route"
	"github.com/pullthrough/pullthrough/store"
)

// Resolve returns the descriptor of a tag or digest, as a HEAD would: nothing
// is copied. Errors are [*Error].
func (c *Cache) Resolve(ctx context.Context, repository, reference string) (ocispec.Descriptor, error) {
	a, err := c.pull(ctx, repository, reference, true)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return a.man.desc, nil
}

// Manifest returns a manifest by tag or digest, as a GET would: what is not
// complete here is copied behind it. The bytes must not be changed. Errors are
// [*Error].
func (c *Cache) Manifest(ctx context.Context, repository, reference string) (ocispec.Descriptor, []byte, error) {
	a, err := c.pull(ctx, repository, reference, false)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return a.man.desc, a.man.body, nil
}

// pull is what both have in common with the handler.
func (c *Cache) pull(ctx context.Context, repository, reference string, head bool) (answer, error) {
	e := c.engine()
	p, d, err := e.name(ctx, kindManifest, repository, reference)
	if err != nil {
		return answer{}, err
	}
	var a answer
	if d != "" {
		a = e.byDigest(ctx, p, d, head)
	} else {
		a = e.byTag(ctx, p, reference, head)
	}
	if a.err != nil {
		return answer{}, p.fail(kindManifest, a.err)
	}
	return a, nil
}

// name checks names that come from Go and finds the place.
func (e *engine) name(ctx context.Context, k kind, repository, reference string) (place, digest.Digest, error) {
	d, err := route.Reference(repository, reference)
	if err != nil {
		return place{}, "", routeError(k, err)
	}
	p, err := e.locate(ctx, repository)
	if err != nil {
		return p, d, p.fail(k, err)
	}
	return p, d, nil
}

// Blob returns a blob, as a GET would. A reader that ends early with an error
// has not given all bytes; the last ones are only given when the digest has
// matched. The size is -1 if it is unknown. Errors are [*Error].
func (c *Cache) Blob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, io.ReadCloser, error) {
	e := c.engine()
	p, d, err := e.name(ctx, kindBlob, repository, d.String())
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	if d == "" {
		return ocispec.Descriptor{}, nil, routeError(kindBlob, route.ErrDigest)
	}
	a := e.blob(ctx, p, d)
	if a.err != nil {
		a.close()
		return ocispec.Descriptor{}, nil, p.fail(kindBlob, a.err)
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

// Prefetch copies a manifest and all that it names, every platform of an index
// included, and waits until it is complete. A failure that is tried again
// behind it is an error all the same. Errors of the upstream are [*Error].
func (c *Cache) Prefetch(ctx context.Context, repository, reference string) error {
	e := c.engine()
	p, _, err := e.name(ctx, kindManifest, repository, reference)
	if err != nil {
		return err
	}
	a, err := c.pull(ctx, repository, reference, false)
	if err != nil {
		return err
	}
	if p.match == nil {
		return nil // a plain repository holds only what is complete
	}
	return e.prefetch(ctx, p, a.man)
}

func (e *engine) prefetch(ctx context.Context, p place, man *manifest) error {
	parsed := e.learn(p, man)
	for _, d := range parsed.Children() {
		a := e.byDigest(ctx, p, d.Digest, false)
		if a.err != nil {
			return p.fail(kindManifest, a.err)
		}
		if err := e.prefetch(ctx, p, a.man); err != nil {
			return err
		}
	}
	for e.complete(ctx, p, man.desc.Digest) == nil {
		t := e.jobs.add(p, man, Job{Repository: p.repo, Source: p.match.Source, Digest: man.desc.Digest,
			MediaType: man.desc.MediaType, Manifest: man.body})
		if t == nil {
			return fmt.Errorf("cache: too many copies are known")
		}
		if err := e.jobs.wait(ctx, t); err != nil {
			return p.fail(kindManifest, err)
		}
	}
	return e.jobs.settled(ctx, content{p.repo, man.desc.Digest})
}

// wait waits until a job has ended or failed.
func (j *jobs) wait(ctx context.Context, t *jobEntry) error {
	j.mu.Lock()
	done := t.done
	j.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return t.last
}

// settled waits for the job of a complete manifest: its tags and events.
func (j *jobs) settled(ctx context.Context, k content) error {
	j.mu.Lock()
	t := j.entries[k]
	j.mu.Unlock()
	if t == nil {
		return nil
	}
	return j.wait(ctx, t)
}

// Delete forgets a tag or the manifest of a digest here; the upstream is not
// touched. The next pull copies it again. A store that cannot delete is an
// error that wraps [errors.ErrUnsupported].
func (c *Cache) Delete(ctx context.Context, repository, reference string) error {
	e := c.engine()
	p, d, err := e.name(ctx, kindManifest, repository, reference)
	if err != nil {
		return err
	}
	s, ok := store.As[store.Deleter](e.store)
	if !ok {
		return fmt.Errorf("cache: the store cannot delete: %w", errors.ErrUnsupported)
	}
	if d == "" {
		err = s.DeleteTag(ctx, p.repo, reference)
		e.tags.Delete(tagKey{p.repo, reference})
		return err
	}
	if l, ok := store.As[store.Lister](e.store); ok { // first the tags, so that none stands for nothing
		for tag, err := range l.TagNames(ctx, p.repo, "") {
			if err != nil {
				return err
			}
			if t, err := e.store.Tag(ctx, p.repo, tag); err == nil && t.Digest == d {
				if err := s.DeleteTag(ctx, p.repo, tag); err != nil {
					return err
				}
				e.tags.Delete(tagKey{p.repo, tag})
			}
		}
	}
	err = s.Delete(ctx, p.repo, d)
	e.hot.Delete(content{p.repo, d})
	return err
}

// CopyState is a copy that is not finished.
type CopyState struct {
	Job
	// State is queued, running, waiting (an index, for a platform to be
	// pulled), watching (a platform, for a layer to be asked for) or paused
	// (it failed and is tried again).
	State string
	// Done and Total are bytes of blobs.
	Done, Total int64
	// Err is why it failed last; nil: it did not.
	Err error
}

// Copies returns the copies that are not finished, the oldest first.
func (c *Cache) Copies() []CopyState {
	e := c.engine()
	e.jobs.mu.Lock()
	states := make([]CopyState, 0, len(e.jobs.entries))
	var blobs [][]ocispec.Descriptor
	for _, t := range e.jobs.entries {
		states = append(states, CopyState{Job: t.job, State: string(t.state), Err: t.last})
		blobs = append(blobs, t.parsed.Blobs())
	}
	e.jobs.mu.Unlock()
	for i := range states {
		e.progress(&states[i], blobs[i])
	}
	slices.SortFunc(states, func(a, b CopyState) int {
		if n := a.Created.Compare(b.Created); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return states
}
