package cache

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/oci"
)

// blobsAtOnce is how many blobs of one manifest are fetched at once.
const blobsAtOnce = 4

// Copy does a job: it fetches what the manifest names, links it, moves its
// tags, and sends its events, in this order, so that a tag never stands for
// something that cannot be served whole. Doing a job again does no harm. It is
// for a [Copier]; an error means that the job should be done again later.
func (c *Cache) Copy(ctx context.Context, job Job) error {
	e := c.engine()
	var moved moves
	p, err := e.again(ctx, job.Repository, job.Source)
	if err == nil {
		var w work
		if w, err = e.ready(ctx, p, job, jobManifest(p, job)); err == nil {
			moved, err = e.copy(ctx, p, job, w)
		}
	}
	j := &e.jobs
	j.lock()
	if t := j.entries[content{job.Repository, job.Digest}]; t != nil && e.cfg.Copier != nil {
		j.ended(t, moved, err)
	}
	j.unlock()
	if errors.Is(err, errWaiting) {
		return nil // it goes on when a child is complete
	}
	return err
}

func jobManifest(p place, job Job) *manifest {
	body := job.Manifest
	if body == nil {
		body = []byte{} // a job that says nothing is a bad one
	}
	return newManifest(ocispec.Descriptor{MediaType: job.MediaType, Digest: job.Digest, Size: int64(len(body))}, body, p.source)
}

// work is the manifest of a job that is ready.
type work struct {
	*manifest
	complete bool // it is here: only tags and events are to come
}

// ready reports whether a job can be done now: errWaiting if it is an index none
// of whose images is here, errBadJob if it never can.
func (e *engine) ready(ctx context.Context, p place, job Job, man *manifest) (work, error) {
	if have := e.complete(ctx, p, job.Digest); have != nil {
		return work{have, true}, nil
	}
	w := work{man, false}
	if err := job.Digest.Validate(); err != nil || job.Digest.Algorithm().FromBytes(job.Manifest) != job.Digest {
		return w, fmt.Errorf("%w: its manifest is not %s", errBadJob, job.Digest)
	}
	parsed := man.parsed
	if parsed.Bad != nil {
		return w, fmt.Errorf("%w: %w", errBadJob, parsed.Bad)
	}
	if !parsed.Index {
		return w, nil
	}
	if err := e.expand(ctx, p, parsed, job); err != nil {
		return w, err
	}
	if !e.indexReady(ctx, p, parsed, job.Platforms) {
		return w, errWaiting
	}
	return w, nil
}

// copy does a job that is ready.
func (e *engine) copy(ctx context.Context, p place, job Job, w work) (moves, error) {
	if parsed := w.parsed; !w.complete && !parsed.Index {
		if err := e.gate(p); err != nil {
			return nil, err
		}
		e.learn(p, w.manifest) // it may come from another process
		if err := e.copyBlobs(ctx, p, parsed); err != nil {
			return nil, err
		}
	}
	if job.Incomplete && p.match.Rule.Referrers && job.Depth <= referrersDeep {
		if err := e.copyReferrers(ctx, p, job); err != nil {
			return nil, err
		}
	}
	return e.finish(ctx, p, job, w)
}

func (e *engine) copyBlobs(ctx context.Context, p place, m *oci.Manifest) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(blobsAtOnce)
	for _, d := range m.Blobs() {
		g.Go(func() error { return e.ensure(ctx, p, d.Digest) })
	}
	return g.Wait()
}

// linked reports whether a blob may be read at p.
func (e *engine) linked(ctx context.Context, p place, d digest.Digest) bool {
	info, err := e.store.Stat(ctx, p.repo, d)
	return err == nil && !info.IsManifest() && p.ours(info.Source)
}

// ensure brings a blob into the store: it is there, another repository has it
// from the same origin and the upstream shows that it has the same, or it is
// downloaded.
func (e *engine) ensure(ctx context.Context, p place, d digest.Digest) error {
	err := e.bring(ctx, p, d)
	if errors.Is(err, flight.ErrSize) { // no manifest's word counts any more
		err = e.bring(ctx, p, d)
	}
	return err
}

func (e *engine) bring(ctx context.Context, p place, d digest.Digest) error {
	if e.linked(ctx, p, d) {
		return nil
	}
	refused := false
	key := flight.Key{Source: p.match.Source, Digest: d}
	if _, _, flying := e.flights.Peek(key); !flying {
		done, asked, err := e.adopt(ctx, p, d, true)
		if done {
			e.heard(p, err)
			return err
		}
		refused = asked
	}
	h, err := e.flights.Join(ctx, e.flight(p, d, true))
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Wait(ctx); err != nil && !errors.Is(err, flight.ErrStored) {
		e.heard(p, err)
		return err
	}
	if refused {
		e.refusesHead(p, kindBlob)
	}
	return nil
}
