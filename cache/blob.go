package cache

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// blobAnswer is what a pull of a blob comes to: a file that is here, or a
// flight.
type blobAnswer struct {
	file   io.ReadSeekCloser
	flight *flight.Handle
	size   int64 // -1: unknown
	state  string
	remote bool
	err    error
}

func (a *blobAnswer) close() {
	if a.file != nil {
		_ = a.file.Close()
	}
	if a.flight != nil {
		a.flight.Close()
	}
}

// blob answers a pull of a blob: linked here, in flight, known from the same
// origin, or downloaded.
func (e *engine) blob(ctx context.Context, p place, d digest.Digest) blobAnswer {
	e.jobs.wants(p, d)
	p.loop = ""          // a download is nobody's request
	for try := range 3 { // it may come into the store or leave it meanwhile, or have another size
		if a, ok := e.local(ctx, p, d); ok {
			return a
		}
		if p.match == nil {
			return blobAnswer{err: errUnknown}
		}
		a := e.fly(ctx, p, d)
		if !errors.Is(a.err, flight.ErrStored) && (!errors.Is(a.err, flight.ErrSize) || try > 0) {
			return a
		}
	}
	return blobAnswer{err: errUnknown}
}

// local opens a blob that is linked here.
func (e *engine) local(ctx context.Context, p place, d digest.Digest) (blobAnswer, bool) {
	info, r, err := e.store.Open(ctx, p.repo, d)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
			e.stats.storeErrors.Add(1)
			e.log.Error("a stored blob cannot be read; it is asked for upstream", "repository", p.repo, "digest", d.String(), "err", err)
		}
		return blobAnswer{}, false
	}
	size, err := r.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = r.Seek(0, io.SeekStart)
	}
	if err != nil || info.IsManifest() || !p.ours(info.Source) || info.Size >= 0 && info.Size != size {
		_ = r.Close()
		return blobAnswer{}, false
	}
	return blobAnswer{file: r, size: size, state: "hit"}, true
}

// fly joins the download of a blob, or begins it.
func (e *engine) fly(ctx context.Context, p place, d digest.Digest) blobAnswer {
	key := flight.Key{Source: p.match.Source, Digest: d}
	_, _, flying := e.flights.Peek(key)
	state, refused := "fwd=miss; collapsed", false
	if !flying {
		state = "fwd=miss; stored"
		if err := e.barred(p); err != nil {
			return blobAnswer{err: err, state: fwd("miss", err)}
		}
		if err := e.absentNow(p, kindBlob, d); err != nil {
			return blobAnswer{err: err, state: "miss; detail=absent"}
		}
		done, asked, err := e.adopt(ctx, p, d, false)
		if done && err != nil {
			e.heard(p, err)
			return blobAnswer{err: err, state: fwd("miss", err)}
		}
		if done {
			a, ok := e.local(ctx, p, d)
			if asked { // it does not say that another repository has the bytes
				a.state = state
			}
			if ok {
				return a
			}
		}
		refused = asked && !done
	}
	h, err := e.flights.Join(ctx, e.flight(p, d, false))
	if err != nil {
		return blobAnswer{err: err}
	}
	size, err := h.Header(ctx)
	if err != nil {
		h.Close()
		if !flying {
			e.heard(p, err)
			e.noteAbsent(p, kindBlob, d, err)
		}
		return blobAnswer{err: err, state: fwd("miss", err)}
	}
	if refused {
		e.refusesHead(p, kindBlob)
	}
	return blobAnswer{flight: h, size: size, state: state, remote: true}
}

// flight describes the download of a blob.
func (e *engine) flight(p place, d digest.Digest, job bool) flight.Request {
	source := p.match.Source // and nothing else of a request
	told := e.sizeOf(p, d)
	want := store.Info{Source: p.source}
	want.Digest, want.Size = d, told.size
	return flight.Request{
		Key:      flight.Key{Source: source, Digest: d},
		Size:     told.size,
		Doubt:    told.doubt,
		Disputed: func() { e.dispute(p, d) },
		Job:      job,
		Open: func(ctx context.Context) (upstream.Repository, error) {
			q, err := e.again(ctx, p.repo, source)
			if err != nil {
				return nil, err
			}
			e.stats.blobConnections.Add(1)
			return e.looped(q), nil
		},
		Spool: func(ctx context.Context) (store.Spool, error) {
			if e.linked(ctx, p, d) {
				return nil, flight.ErrStored
			}
			if s, ok := store.As[store.Spooler](e.store); ok {
				return s.Spool(ctx, p.repo, want)
			}
			return newFileSpool(e.cfg.SpoolDir, e.store, p.repo, want)
		},
	}
}
