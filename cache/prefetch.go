package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/upstream"
)

// PrefetchOptions says what [Cache.Prefetch] copies. The zero value copies
// every platform of an index.
type PrefetchOptions struct {
	// Platforms are those of an index that are copied: names such as "linux/arm64", or
	// [rule.AllPlatforms], or [rule.PulledPlatforms]: the platforms that are stored for
	// the image that the tag points to now. A name for which the index has no image is an
	// error, and so is one that an image without an index is not for. If nil, all.
	Platforms []string
	// Progress receives the number of bytes of blobs that are here, and of all that are
	// known so far, about four times a second and once at the end, on the caller's
	// goroutine. The total grows while manifests are read. If nil, nothing is called.
	Progress func(done, total int64)
}

// prefetchTries is how often a copy is asked for that ends without an error.
const prefetchTries = 3

// progressEvery is how often Progress is called.
const progressEvery = 250 * time.Millisecond

// Prefetch copies a manifest and what it names, and waits until that is complete,
// its tag has moved and its events are taken over. A failure that is tried again
// behind it is an error all the same. A manifest of a tag or digest that is
// complete already costs a question at most. Errors of the upstream are [*Error]. What is
// deleted meanwhile is not copied; the error wraps [ErrDeleted].
func (c *Cache) Prefetch(ctx context.Context, repository, reference string, o PrefetchOptions) error {
	e := c.engine()
	if err := oci.CheckPlatforms(o.Platforms); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	r, d, err := e.name(ctx, AccessManifest, repository, reference)
	if err != nil {
		return err
	}
	f := &prefetch{e: e, r: r.Repo, began: r.began, o: o, blobs: map[digest.Digest]int64{}, seen: map[digest.Digest]bool{}}
	f.platforms = f.o.Platforms
	if len(f.platforms) == 0 {
		f.platforms = []string{oci.AllPlatforms}
	}
	if f.platforms[0] == oci.PulledPlatforms {
		if d != "" {
			return errors.New("cache: a digest stood for nothing before: which of its platforms were pulled is not known")
		}
		if f.platforms, err = e.pulled(ctx, r.Repo, reference); err != nil {
			return err
		}
	}
	a, err := c.pull(ctx, repository, reference, false)
	if err != nil {
		return err
	}
	if !r.Covered() {
		return nil // a plain repository holds only what is complete
	}
	if missing := a.man.Parsed.Lacks(o.Platforms); len(missing) > 0 {
		return fmt.Errorf("cache: the index %s has no image for %s", a.man.Digest, strings.Join(missing, ", "))
	}
	if err := f.fits(ctx, a.man); err != nil {
		return err
	}
	if err := f.copy(ctx, a.man); err != nil {
		return err
	}
	f.tell()
	return nil
}

// pulled names the platforms that are here of what a tag stands for.
func (e *engine) pulled(ctx context.Context, r origin.Repo, tag string) ([]string, error) {
	s := e.local.tag(ctx, r, tag)
	if s.man == nil {
		return nil, fmt.Errorf("cache: no platform of %s:%s was pulled", r.Name, tag)
	}
	parsed := s.man.Parsed
	if !parsed.Index {
		return []string{oci.AllPlatforms}, nil
	}
	var names []string
	for _, d := range parsed.Images() {
		if name := oci.PlatformName(d.Platform); name != "" && e.local.manifest(ctx, r, d.Digest) != nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("cache: what was pulled of %s:%s has no platform", r.Name, tag)
	}
	return names, nil
}

// fits reports an image without an index that is for another platform than was
// asked for. Its config says which; what has no config of an image is for all.
func (f *prefetch) fits(ctx context.Context, man *oci.Content) error {
	config := man.Parsed.Config
	if man.Parsed.Index || config == nil || !oci.IsImageConfig(config.MediaType) || !oci.NamesPlatforms(f.platforms) {
		return nil
	}
	_, r, err := f.e.cfg.Blob(ctx, f.r.Name, config.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	var platform ocispec.Platform
	body, err := io.ReadAll(io.LimitReader(r, upstream.MaxManifestSize))
	if err != nil {
		return failure(f.r, AccessBlob, config.Digest.String(), err)
	}
	if json.Unmarshal(body, &platform) != nil || platform.OS == "" {
		return nil // it does not say
	}
	if !oci.Selects(f.platforms, &platform) {
		return fmt.Errorf("cache: the image %s is for %s, not for %s", man.Digest, oci.PlatformName(&platform), strings.Join(f.platforms, ", "))
	}
	return nil
}

// prefetch is one Prefetch at work.
type prefetch struct {
	e         *engine
	r         origin.Repo
	began     time.Time
	o         PrefetchOptions
	platforms []string
	blobs     map[digest.Digest]int64 // sizes
	seen      map[digest.Digest]bool
}

// copy copies a manifest and what is selected of an index.
func (f *prefetch) copy(ctx context.Context, man *oci.Content) error {
	e, r := f.e, f.r
	parsed := man.Parsed
	if f.seen[man.Digest] { // an index may name one twice
		return nil
	}
	f.seen[man.Digest] = true
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, b := range parsed.Blobs() {
		f.blobs[b.Digest] = b.Size
	}
	for _, d := range parsed.Select(f.platforms) {
		child, err := e.worker.part(ctx, r, d)
		if err != nil {
			return failure(r, AccessManifest, man.Digest.String(), err)
		}
		if err := f.copy(ctx, child); err != nil {
			return err
		}
	}
	if parsed.Index && len(parsed.Images()) > 0 && len(parsed.Select(f.platforms)) == 0 {
		return fmt.Errorf("cache: the index %s has no image for %s", man.Digest, strings.Join(f.platforms, ", "))
	}
	job := ledger.Job{Repository: r.Name, Source: r.Match.Source, Platforms: f.platforms}
	for try := 0; e.local.manifest(ctx, r, man.Digest) == nil; try++ {
		if try == prefetchTries { // it expired, or the store does not show what it took
			return fmt.Errorf("cache: %s was copied and is not in the store", man.Digest)
		}
		if e.local.deletedSince(r, man.Digest.String(), f.began) {
			return failure(r, AccessManifest, man.Digest.String(), ErrDeleted)
		}
		h, err := e.ledger.Add(ctx, ctx, man, job, e.local.facts(ctx, r, man, nil))
		if err == ErrTooManyCopies {
			return err
		}
		if err == nil {
			err = f.wait(ctx, h)
		}
		if err != nil {
			return failure(r, AccessManifest, man.Digest.String(), err)
		}
	}
	// Its tags and events, if they are still to come.
	if h := e.ledger.Pending(keyOf(r, man.Digest)); h != nil {
		return f.wait(ctx, h)
	}
	return nil
}

// wait waits until a job has ended or failed, and reports progress meanwhile. A parked
// job runs first, or nothing would ever become of it.
func (f *prefetch) wait(ctx context.Context, h *ledger.Handle) error {
	ended := make(chan error, 1)
	go func() { ended <- h.Wait(ctx, true) }() // ends with ctx at the latest
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			f.tell()
		}
	}
}

// tell tells how far it is.
func (f *prefetch) tell() {
	if f.o.Progress == nil {
		return
	}
	var done, total int64
	for d, size := range f.blobs {
		total += size
		done += f.e.fetcher.here(f.e.ctx, f.r, f.r.Match.Source, ocispec.Descriptor{Digest: d, Size: size})
	}
	f.o.Progress(done, total)
}
