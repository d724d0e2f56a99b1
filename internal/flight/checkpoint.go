package flight

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// openSpool makes the spool and takes up what a former process vouches for.
func (s *spoolSink) openSpool() error {
	spool, err := s.makeSpool()
	if err != nil {
		return err
	}
	if c, ok := spool.(store.Checkpointer); ok && !s.resume(c.Progress()) {
		// What is there is of no use. It must go: bytes are never written
		// twice, and a crash now must not find the old sidecar beside new bytes.
		_ = spool.Close()
		if spool, err = s.makeSpool(); err != nil {
			return err
		}
	}
	s.spool = spool
	s.f.spool.set(spool)
	return nil
}

func (s *spoolSink) makeSpool() (store.Spool, error) {
	f := s.f
	spool, err := f.req.Spool(f.ctx)
	switch {
	case err == nil:
		return spool, nil
	case errors.Is(err, ErrStored):
		return nil, err
	case f.ctx.Err() != nil: // it is not the store's fault
		return nil, context.Cause(f.ctx)
	}
	f.storeFailed(err)
	return nil, broken(err)
}

// resume begins where p ends. It reports whether it can.
func (s *spoolSink) resume(p store.Progress) bool {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Front <= 0 {
		return true
	}
	if f.size >= 0 && p.Size >= 0 && p.Size != f.size {
		return false
	}
	size := max(f.size, p.Size)
	u, ok := s.hash.(encoding.BinaryUnmarshaler)
	if !ok || size >= 0 && p.Front > size {
		return false
	}
	if u.UnmarshalBinary(p.Hash) != nil {
		s.hash.Reset()
		return false
	}
	f.size, f.front, f.claimed, s.checked, s.full = size, p.Front, p.Front, p.Front, p.Front
	f.have = f.have.add(0, p.Front)
	for _, s := range p.Spans {
		if s.Start > p.Front && s.Start < s.End && (size < 0 || s.End <= size) {
			f.have = f.have.add(s.Start, s.End)
		}
	}
	return true
}

// mostSpans is how many parts beyond the front a checkpoint vouches for.
const mostSpans = 64

// beyond returns the parts that are present beyond a front. f.mu is held.
func (f *flight) beyond(front int64) (spans []store.Span) {
	for _, s := range f.have[f.have.indexAfter(front):] {
		if s.start > front && len(spans) < mostSpans {
			spans = append(spans, store.Span{Start: s.start, End: s.end})
		}
	}
	return spans
}

// progress is what a checkpoint at front vouches for, which is where the front is.
func (s *spoolSink) progress(front, size int64) (store.Progress, error) {
	m, ok := s.hash.(encoding.BinaryMarshaler)
	if !ok {
		return store.Progress{}, fmt.Errorf("flight: the state of %s cannot be saved", s.f.req.Digest.Algorithm())
	}
	state, err := m.MarshalBinary()
	if err != nil {
		return store.Progress{}, err
	}
	return store.Progress{Front: front, Size: size, Hash: state}, nil
}

// checkpoint begins a checkpoint when one is due, off the readers' path. With a full one the
// flight also learns whether its rule still covers it and whether anybody still waits.
func (s *spoolSink) checkpoint() {
	f := s.f
	if s.began.IsZero() { // the first bytes have come
		s.began = time.Now()
	}
	if s.checking.Load() {
		return
	}
	f.mu.Lock()
	front, size, missing := f.front, f.size, f.missing()
	f.mu.Unlock()
	full := front-s.full >= checkpointSize
	if !full && !s.early(front, missing) {
		return
	}
	s.checked, s.began = front, time.Now()
	f.mu.Lock()
	if full {
		s.full = front
		f.endIfUnwanted()
	}
	beyond := f.beyond(front)
	f.mu.Unlock()
	s.checking.Store(true)
	p, err := s.progress(front, size)
	p.Spans = beyond
	s.checkpoints.Go(func() {
		if c, ok := s.spool.(store.Checkpointer); ok && err == nil {
			if err := c.Checkpoint(p); err != nil {
				f.storeFailed(err) // writing goes on while it can
			}
		}
		s.checking.Store(false)
		if !full {
			f.group.early.end()
		} else if s.asking.CompareAndSwap(false, true) { // which may take longer than to the next one
			s.askRule()
			s.asking.Store(false)
		}
	})
}

// askRule ends the flight if its rule is gone.
func (s *spoolSink) askRule() {
	f := s.f
	ctx, cancel := context.WithTimeout(f.ctx, f.group.Idle)
	defer cancel()
	_, err := f.remote.repository(ctx)
	if gone, ok := errors.AsType[*goneError](err); ok && ctx.Err() == nil {
		f.cancel(gone)
	}
}

// keep leaves what came for a later flight, unless it is known to be wrong, the
// rule is gone or the store has failed. No reader opens spool after that; it is
// nil if there is none.
func (s *spoolSink) keep(spool store.Spool, err error) {
	if spool == nil {
		return
	}
	front, size := s.f.frontNow(), s.f.sizeNow()
	c, ok := spool.(store.Checkpointer)
	if !ok || front == 0 || errors.Is(err, ErrDigest) || hopeless(err) {
		_ = spool.Close()
		return
	}
	if s.checked < front {
		if p, err := s.progress(front, size); err == nil {
			s.f.mu.Lock()
			p.Spans = s.f.beyond(front)
			s.f.mu.Unlock()
			_ = c.Checkpoint(p)
		}
	}
	_ = c.Keep() // what cannot be kept is fetched again
}
