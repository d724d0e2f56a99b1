package flight

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

const (
	firstPause = 100 * time.Millisecond // before the first retry; doubles
	maxStalls  = 7                      // retries in a row without progress
	longestNap = time.Minute            // a Retry-After that is waited for
)

// goneError says that the rule no longer covers the flight.
type goneError struct{ err error }

func (e *goneError) Error() string { return e.err.Error() }
func (e *goneError) Unwrap() error { return e.err }

// download fills the spool until the digest is known.
func (f *Flight) download() error {
	release, err := f.group.slots.acquire(f.ctx, f.req.Source.Host, f.req.Job, f.promoted)
	if err != nil {
		return err
	}
	defer release()
	close(f.placed)
	if err := f.openSpool(); err != nil {
		return err
	}
	stalls := 0
	for {
		complete, err := f.skip()
		if err != nil {
			return err
		}
		if complete {
			return f.verify()
		}
		before := f.at()
		err = f.connection()
		switch {
		case err == nil || f.at()-before >= segmentAlign:
			stalls = 0
		default:
			stalls++
		}
		if err == nil {
			continue
		}
		pause, again := f.again(err, stalls)
		if !again {
			return err
		}
		select {
		case <-time.After(pause):
		case <-f.ctx.Done():
			return context.Cause(f.ctx)
		}
	}
}

// at is where the front is.
func (f *Flight) at() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.front
}

// openSpool makes the spool and takes up what a former process vouches for.
func (f *Flight) openSpool() error {
	spool, err := f.req.Spool(f.ctx)
	if errors.Is(err, ErrStored) {
		return err
	}
	if err != nil {
		f.failed(err)
		return errBroken
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spool = spool
	defer f.closeOpened()
	c, ok := spool.(store.Checkpointer)
	if !ok {
		return nil
	}
	p := c.Progress()
	if p.Front <= 0 || f.size >= 0 && p.Size >= 0 && p.Size != f.size || p.Size >= 0 && p.Front > p.Size {
		return nil
	}
	u, ok := f.hash.(encoding.BinaryUnmarshaler)
	if !ok || u.UnmarshalBinary(p.Hash) != nil {
		f.hash.Reset()
		return nil
	}
	if f.size < 0 {
		f.size = p.Size
	}
	f.front, f.checked = p.Front, p.Front
	f.have = f.have.add(0, p.Front)
	return nil
}

// again decides whether and when an upstream that failed is asked again.
func (f *Flight) again(err error, stalls int) (time.Duration, bool) {
	if f.ctx.Err() != nil {
		return 0, false
	}
	f.mu.Lock()
	live := f.isLive
	f.mu.Unlock()
	var gone *goneError
	if errors.As(err, &gone) || errors.Is(err, errBroken) || errors.Is(err, errSize) || stalls > maxStalls {
		return 0, false
	}
	pause := firstPause << max(0, stalls-1)
	class, known := upstream.ClassOf(err)
	switch {
	case !known: // the body ended or stalled
		return pause, live
	case class == upstream.Limited:
		e, _ := errors.AsType[*upstream.Error](err)
		pause = max(pause, e.RetryAfter, time.Second)
		return pause, live && pause <= longestNap
	case class == upstream.Protocol:
		// Ranges may be what it cannot do: ask once for everything.
		again := !f.whole && f.at() > 0
		f.whole = true
		return pause, again
	case class == upstream.Unreachable:
		return pause, live || stalls <= 1
	}
	return 0, false
}

var errSize = errors.New("the size is not the one that the manifest says")

// connection asks for what is missing at the front and takes what comes.
func (f *Flight) connection() error {
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	repo, err := f.req.Open(ctx)
	if err != nil {
		return &goneError{err}
	}
	offset, length := f.gap()
	body, err := repo.Blob(ctx, f.req.Digest, offset, length)
	if err != nil {
		return err
	}
	defer body.Close()
	front := f.at()
	if err := f.accept(body, front); err != nil {
		return err
	}
	drop := front - body.Offset // what an upstream sends that ignores ranges
	n, err := f.group.pump(ctx, cancel, body, func(data []byte) (bool, error) {
		d := min(drop, int64(len(data)))
		drop -= d
		return f.advance(data[d:])
	})
	if err == nil && body.Length < 0 && f.sizeNow() < 0 {
		f.setSize(body.Offset + n)
	}
	return err
}

// gap is what the front asks for: up to what somebody else has.
func (f *Flight) gap() (offset, length int64) {
	if f.whole {
		return 0, -1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if limit := f.limit(); limit < math.MaxInt64 {
		return f.front, limit - f.front
	}
	return f.front, -1
}

// limit is the first byte from the front on that is present or that a segment
// is bringing. f.mu is held.
func (f *Flight) limit() int64 {
	limit := int64(math.MaxInt64)
	if f.have.end(f.front) > f.front {
		return f.front
	}
	if n := f.have.next(f.front); n >= 0 {
		limit = n
	}
	for _, s := range f.segments {
		if s.end > f.front {
			limit = min(limit, max(s.start, f.front))
		}
	}
	return limit
}

// accept checks what the upstream says that it sends.
func (f *Flight) accept(body upstream.Body, front int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if body.Offset > front {
		return f.protocol(fmt.Errorf("asked for bytes from %d, got them from %d", front, body.Offset))
	}
	if body.Size >= 0 {
		if f.size >= 0 && f.size != body.Size {
			return f.protocol(fmt.Errorf("%w: %d, not %d", errSize, body.Size, f.size))
		}
		f.size = body.Size
	}
	if body.Offset < front {
		f.noRange = true
	}
	f.makeLive()
	f.wake()
	return nil
}

func (f *Flight) protocol(err error) error {
	return &upstream.Error{Source: f.req.Source, Op: "GET blob " + f.req.Digest.String(), Class: upstream.Protocol, Err: err}
}

func (f *Flight) sizeNow() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

func (f *Flight) setSize(n int64) {
	f.mu.Lock()
	f.size = n
	f.mu.Unlock()
}

// advance moves the front over data; stop: the next byte is somebody else's.
func (f *Flight) advance(data []byte) (stop bool, err error) {
	for len(data) > 0 {
		f.mu.Lock()
		front, limit, size := f.front, f.limit(), f.size
		f.mu.Unlock()
		if limit == front {
			return true, nil
		}
		if size >= 0 && front+int64(len(data)) > size {
			return true, f.protocol(fmt.Errorf("%w: more than %d bytes come", errSize, size))
		}
		piece := data[:min(int64(len(data)), limit-front)]
		if _, err := f.spool.WriteAt(piece, front); err != nil {
			f.failed(err)
			return true, errBroken
		}
		_, _ = f.hash.Write(piece)
		f.publish(front, int64(len(piece)), true)
		f.vouch()
		data = data[len(piece):]
	}
	return false, nil
}

// skip moves the front over what is present, waits for a segment that is
// there, and tells whether everything is present.
func (f *Flight) skip() (complete bool, err error) {
	for {
		f.mu.Lock()
		front, end, size := f.front, f.have.end(f.front), f.size
		var ahead *segment
		for _, s := range f.segments {
			if s.start <= front && front < s.end {
				ahead = s
			}
		}
		f.mu.Unlock()
		switch {
		case end > front:
			if err := f.rehash(front, end); err != nil {
				return false, err
			}
		case size >= 0 && front >= size:
			return true, nil
		case ahead != nil:
			select {
			case <-ahead.more:
			case <-f.ctx.Done():
				return false, context.Cause(f.ctx)
			}
		default:
			return false, nil
		}
	}
}

// rehash hashes bytes that a segment brought, from the spool, so that what is
// hashed is what is stored.
func (f *Flight) rehash(from, to int64) error {
	r, err := f.spool.Open()
	if err == nil {
		defer r.Close()
		_, err = r.Seek(from, 0)
	}
	buf := f.group.takeBuffer()
	defer f.group.buffers.Put(buf)
	for from < to && err == nil {
		var n int
		n, err = r.Read((*buf)[:min(int64(len(*buf)), to-from)])
		if n > 0 {
			_, _ = f.hash.Write((*buf)[:n])
			from += int64(n)
			f.mu.Lock()
			f.front = from
			f.wake()
			f.mu.Unlock()
			f.vouch()
			err = nil
		}
	}
	if err != nil {
		f.failed(err)
		return errBroken
	}
	return nil
}

// verify compares the digest.
func (f *Flight) verify() error {
	f.mu.Lock()
	live := f.isLive
	f.mu.Unlock()
	if !live { // all of it is from a former process: does the upstream still allow it?
		repo, err := f.req.Open(f.ctx)
		if err != nil {
			return &goneError{err}
		}
		if _, err := repo.StatBlob(f.ctx, f.req.Digest); err != nil {
			return err
		}
	}
	if got := fmt.Sprintf("%x", f.hash.Sum(nil)); got != f.req.Digest.Encoded() {
		return f.protocol(fmt.Errorf("%w: got %s:%s", ErrDigest, f.req.Digest.Algorithm(), got))
	}
	return nil
}

// vouch begins a checkpoint when enough has come, off the readers' path. There
// the flight also learns whether its rule still covers it and whether anybody
// still waits.
func (f *Flight) vouch() {
	f.mu.Lock()
	due := f.front-f.checked >= checkpointSize && !f.vouching
	if due {
		f.vouching = true
		f.orphan()
	}
	f.mu.Unlock()
	if !due {
		return
	}
	p, err := f.progress()
	f.checked = p.Front
	f.checkpoint.Go(func() {
		c, ok := f.spool.(store.Checkpointer)
		if ok && err == nil {
			if err := c.Checkpoint(p); err != nil {
				f.failed(err) // writing goes on while it can
			}
		}
		if _, err := f.req.Open(f.ctx); err != nil && f.ctx.Err() == nil {
			f.cancel(&goneError{err})
		}
		f.mu.Lock()
		f.vouching = false
		f.mu.Unlock()
	})
}

// orphan ends the flight if nobody waits and much is missing. f.mu is held.
func (f *Flight) orphan() {
	if f.clients > 0 || f.jobs > 0 {
		return
	}
	left := f.front // of unknown size: as much again
	if f.size >= 0 {
		left = f.size - f.front
	}
	select {
	case <-f.placed:
		if left <= f.group.Orphan && f.group.Orphan >= 0 {
			return
		}
	default: // it has not even begun
	}
	f.cancel(ErrAbandoned)
}
