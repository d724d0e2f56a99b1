package flight

import (
	"context"
	"errors"
	"io"
	"time"
)

// Handle is one reader's hold on a flight. It is used by one goroutine.
type Handle struct {
	f      *flight
	job    bool
	began  bool // the flight, by joining
	closed bool
	spool  spoolReader
	apart  bool   // it cannot open the spool: it reads alone
	size   int64  // of a reader that reads alone: what its header said, -1 if unknown
	small  []byte // of a reader that reads alone: the whole of a small blob
}

// join adds a reader. It returns nil if the flight is ending.
func (f *flight) join(job bool) *Handle {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed() {
		return nil
	}
	if job {
		f.jobs++
	} else {
		f.clients++
		select {
		case <-f.promoted:
		default:
			close(f.promoted)
		}
	}
	return &Handle{f: f, job: job, spool: newSpoolReader(f.spool), size: -1}
}

// closed reports whether no reader may join. f.mu is held.
func (f *flight) closed() bool { return f.ending || f.ctx.Err() != nil && !f.verified }

// Close lets go of the flight, which goes on without its reader.
func (h *Handle) Close() {
	if h.closed {
		return
	}
	h.closed = true
	f := h.f
	f.mu.Lock()
	if h.job {
		f.jobs--
	} else {
		f.clients--
	}
	f.endIfUnwanted()
	f.mu.Unlock()
	h.spool.close()
}

// Wait waits until the blob is in the store, or says why it is not.
func (h *Handle) Wait(ctx context.Context) error {
	f := h.f
	select {
	case <-f.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if h.job { // it reads nothing
		h.spool.release()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	return f.stored
}

// Header waits until the upstream has answered and returns the size of the
// blob, -1 if that is unknown. A blob of at most [HoldBack] bytes is verified
// then. The error is [ErrBusy] if no slot for the download became free in time,
// and one with Timeout if the upstream takes too long.
func (h *Handle) Header(ctx context.Context) (size int64, err error) {
	f := h.f
	late := f.remote.slow()
	if err := await(ctx, f.prepared, f.live, f.group.Busy, ErrBusy); err != nil {
		return 0, err
	}
	if err := await(ctx, f.live, nil, f.group.Answer, late); err != nil {
		return 0, err
	}
	if isSmall(f.sizeNow()) {
		if err := await(ctx, f.verdict, nil, f.group.Answer, late); err != nil {
			return 0, err
		}
	}
	opened := h.spool.open()
	f.mu.Lock()
	size, err = f.size, f.err
	f.mu.Unlock()
	if err != nil && !Broken(err) {
		return 0, err
	}
	if opened != nil && err == nil {
		f.storeFailed(opened)
	}
	h.apart = opened != nil
	if !h.apart && (err == nil || !isSmall(size)) {
		return size, nil
	}
	size, err = h.prepareAlone(ctx)
	f.dispute(err)
	return size, err
}

// Began reports whether the download began for this reader. Otherwise it was under way.
func (h *Handle) Began() bool { return h.began }

// Via is the other cache that sends the blob, if that is not its upstream; see
// [upstream.Body].
func (h *Handle) Via() string {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return h.f.via
}

// await waits for a or b, at most for d.
func await(ctx context.Context, a, b <-chan struct{}, d time.Duration, late error) error {
	select {
	case <-a:
		return nil
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-a:
	case <-b:
	case <-timer.C:
		return late
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// Send writes n bytes from off on to w, as they come, or all up to the end if n
// is -1. With whole, the end of the blob waits for its digest: an error then
// means that w has not got all bytes. flush is called before Send sleeps while w
// may still hold bytes back; if nil, it is not called. Send comes after Header.
func (h *Handle) Send(ctx context.Context, w io.Writer, flush func(), off, n int64, whole bool) (sent int64, err error) {
	for n != 0 {
		avail, err := h.awaitBytes(ctx, off, whole, flush)
		if errors.Is(err, errBroken) {
			m, err := h.sendAlone(ctx, w, off, n, whole)
			return sent + m, err
		}
		if errors.Is(err, io.EOF) && n < 0 {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
		if n > 0 {
			avail = min(avail, n)
		}
		m, err := h.spool.copy(w, off, avail)
		sent += m
		if err != nil {
			return sent, err
		}
		off += m
		if n > 0 {
			n -= m
		}
	}
	return sent, nil
}

// awaitBytes sleeps until bytes from off on may be read, and returns how many.
// The error is [io.EOF] at the end of the blob.
func (h *Handle) awaitBytes(ctx context.Context, off int64, whole bool, flush func()) (int64, error) {
	if h.apart || h.small != nil {
		return 0, errBroken
	}
	f := h.f
	for {
		n, w, err := f.waitOrRead(off, whole)
		if w == nil {
			return n, err
		}
		if flush != nil {
			flush()
			flush = nil
		}
		if err := f.sleep(ctx, w); err != nil {
			return 0, err
		}
	}
}

// waitOrRead returns how many bytes from off on may be read, or why there will
// be none, or a waiter that is woken when there are some.
func (f *flight) waitOrRead(off int64, whole bool) (int64, *waiter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.released(off, whole)
	switch {
	case n > 0:
		return n, nil, nil
	case f.err != nil:
		return 0, nil, f.err
	case f.verified, !whole && f.size >= 0 && off >= f.size:
		return 0, nil, io.EOF
	}
	if !whole {
		f.demand(off)
	}
	return 0, f.wait(off, whole), nil
}

// sleep waits for w. A reader of a range looks up now and then whether the
// front, whose speed is known by then, is too far away.
func (f *flight) sleep(ctx context.Context, w *waiter) error {
	var tick <-chan time.Time
	if !w.whole {
		timer := time.NewTimer(time.Second)
		defer timer.Stop()
		tick = timer.C
	}
	select {
	case <-w.ready:
		return nil
	case <-tick:
	case <-ctx.Done():
	}
	f.mu.Lock()
	delete(f.waiters, w)
	f.mu.Unlock()
	return context.Cause(ctx)
}
