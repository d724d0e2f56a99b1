package flight

import (
	"context"
	"errors"
	"io"
	"time"
)

// Handle is one reader's hold on a flight. It is used by one goroutine.
type Handle struct {
	f      *Flight
	job    bool
	closed bool
	opener bool // counted among those who may still open the spool
	apart  bool // it cannot open the spool: it reads alone
	file   io.ReadSeekCloser
	pos    int64 // of file
	size   int64 // what the header of one who reads alone said
	small  []byte
}

// join adds a reader; nil: the flight is ending.
func (f *Flight) join(job bool) *Handle {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending || f.ctx.Err() != nil && !f.verified {
		return nil
	}
	f.openers++
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
	return &Handle{f: f, job: job, opener: true, size: -1}
}

// Close lets go of the flight, which goes on without its reader.
func (h *Handle) Close() {
	if h.closed {
		return
	}
	h.closed = true
	if h.file != nil {
		_ = h.file.Close()
	}
	f := h.f
	f.mu.Lock()
	if h.job {
		f.jobs--
	} else {
		f.clients--
	}
	f.orphan()
	f.mu.Unlock()
	h.drop()
}

// drop says that this reader will not open the spool any more.
func (h *Handle) drop() {
	if h.opener {
		h.opener = false
		h.f.drop()
	}
}

// Wait waits until the blob is in the store, or says why it is not.
func (h *Handle) Wait(ctx context.Context) error {
	select {
	case <-h.f.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if h.job { // it reads nothing
		h.drop()
	}
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return errors.Join(h.f.err, h.f.broken, h.f.stored) // at most one of them
}

// Header waits until the upstream has answered and returns the size of the
// blob, -1 if that is unknown. A blob of at most [HoldBack] bytes is verified
// then. [ErrBusy] if there is no place for the download, and an error with
// Timeout if the upstream takes too long.
func (h *Handle) Header(ctx context.Context) (size int64, err error) {
	f := h.f
	if err := await(ctx, f.placed, f.live, f.group.Busy, ErrBusy); err != nil {
		return 0, err
	}
	if err := await(ctx, f.live, nil, f.group.Answer, f.slow()); err != nil {
		return 0, err
	}
	if size := f.sizeNow(); isSmall(size) {
		if err := await(ctx, f.verdict, nil, f.group.Answer, f.slow()); err != nil {
			return 0, err
		}
	}
	opened := h.open()
	f.mu.Lock()
	size, err = f.size, f.err
	broken := f.broken != nil
	f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if opened != nil && !broken {
		f.failed(opened)
	}
	h.apart = opened != nil
	if !h.apart && (!broken || !isSmall(size)) {
		return size, nil
	}
	size, err = h.alone(ctx)
	f.dispute(err)
	return size, err
}

// isSmall reports whether a blob of this size is verified before its header.
func isSmall(size int64) bool { return size >= 0 && size <= HoldBack }

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

// open makes the reader's own file on the spool, once.
func (h *Handle) open() error {
	if h.file != nil {
		return nil
	}
	h.f.mu.Lock()
	spool := h.f.spool
	h.f.mu.Unlock()
	if spool == nil {
		return errBroken
	}
	file, err := spool.Open()
	if err != nil {
		return err
	}
	h.file = file
	h.drop()
	return nil
}

// Send writes n bytes from off on to w, as they come; n -1: to the end. With
// whole, the end of the blob waits for its digest: an error then means that w
// has not got all bytes. flush is called before Send sleeps on bytes that w
// may still hold back. It comes after Header.
func (h *Handle) Send(ctx context.Context, w io.Writer, flush func(), off, n int64, whole bool) (sent int64, err error) {
	for n != 0 {
		avail, err := h.await(ctx, off, whole, flush)
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
		m, err := h.copy(w, off, avail)
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

// copy sends bytes that are present. Of an *os.File the kernel sends them.
func (h *Handle) copy(w io.Writer, off, n int64) (int64, error) {
	if err := h.open(); err != nil {
		return 0, err
	}
	if h.pos != off {
		if _, err := h.file.Seek(off, io.SeekStart); err != nil {
			return 0, err
		}
		h.pos = off
	}
	m, err := io.CopyN(w, h.file, n)
	h.pos += m
	if err != nil {
		h.pos = -1 // w may have taken less than was read
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return m, err
}

// await sleeps until bytes from off on may be read, and returns how many.
// [io.EOF] at the end of the blob.
func (h *Handle) await(ctx context.Context, off int64, whole bool, flush func()) (int64, error) {
	if h.apart || h.small != nil {
		return 0, errBroken
	}
	f := h.f
	for {
		n, w, err := f.look(off, whole)
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

// look returns how many bytes from off on may be read, or why there are none,
// or whom to wake when there are some.
func (f *Flight) look(off int64, whole bool) (int64, *waiter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.released(off, whole)
	switch {
	case n > 0:
		return n, nil, nil
	case f.err != nil:
		return 0, nil, f.err
	case f.broken != nil:
		return 0, nil, f.broken
	case f.verified, !whole && f.size >= 0 && off >= f.size:
		return 0, nil, io.EOF
	}
	if !whole {
		f.demand(off)
	}
	w := &waiter{off: off, whole: whole, ready: make(chan struct{})}
	f.waiters[w] = struct{}{}
	return 0, w, nil
}

// sleep waits for w. A reader of a range looks up now and then whether the
// front, whose speed is known by then, is too far away.
func (f *Flight) sleep(ctx context.Context, w *waiter) error {
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
