package flight

import (
	"context"
	"io"
)

// A reader reads alone if the store cannot keep the blob, or cannot open what it
// has for this reader. It goes on from where the flight got to, under the same
// limits as any download.

// prepareAlone learns the size, and fetches a small blob whole, so that it is
// verified before its header.
func (h *Handle) prepareAlone(ctx context.Context) (int64, error) {
	f := h.f
	ctx, end := detached(ctx)
	defer end()
	brief, cancel := context.WithTimeoutCause(ctx, f.group.Answer, f.remote.slow())
	defer cancel()
	size, err := f.remote.stat(brief)
	if err == nil {
		err = f.remote.checkSize(size, f.sizeNow())
	}
	if err != nil {
		return 0, causeOf(brief, err)
	}
	h.size = max(size, f.sizeNow())
	if !isSmall(h.size) {
		return h.size, nil
	}
	queue, cancel := context.WithTimeoutCause(ctx, f.group.Busy, ErrBusy)
	defer cancel()
	release, err := f.group.slots.Acquire(queue, f.claim())
	if err != nil {
		return 0, err
	}
	defer release()
	brief, cancel = context.WithTimeoutCause(ctx, f.group.Answer, f.remote.slow())
	defer cancel()
	var small buffer
	p := newPassthrough(&f.remote, &small, 0, -1, h.size)
	p.hash = f.req.Digest.Algorithm().Hash()
	if err := f.pass(brief, p); err != nil {
		return 0, causeOf(brief, err)
	}
	h.small = small
	return h.size, nil
}

// pass pulls to the end of what p's reader gets.
func (f *flight) pass(ctx context.Context, p *passthrough) error {
	if err := f.pull(ctx, &p.tries, p); err != nil {
		return err
	}
	return p.finish()
}

// sendAlone does what Send does, from off on.
func (h *Handle) sendAlone(ctx context.Context, w io.Writer, off, n int64, whole bool) (int64, error) {
	if h.small != nil {
		m, err := w.Write(h.cut(off, n))
		return int64(m), err
	}
	f := h.f
	f.mu.Lock()
	handover, size := f.handover, max(f.size, h.size)
	f.mu.Unlock()
	end := int64(-1)
	if n >= 0 {
		end = off + n
	}
	p := newPassthrough(&f.remote, w, off, end, size)
	if whole {
		if err := p.verify(handover, &h.spool); err != nil {
			return p.sent, err
		}
	}
	own, stop := detached(ctx)
	defer stop()
	release, err := f.group.slots.Acquire(own, f.claim())
	if err != nil {
		return p.sent, err
	}
	defer release()
	err = f.pass(own, p)
	return p.sent, err
}

// cut returns n bytes of a small blob from off on, or all of them if n is -1.
func (h *Handle) cut(off, n int64) []byte {
	size := int64(len(h.small))
	end := size
	if n >= 0 {
		end = min(end, off+n)
	}
	return h.small[min(off, end):end]
}

// detached returns a context that ends with ctx and has none of its values.
func detached(ctx context.Context) (context.Context, func()) {
	own, cancel := context.WithCancelCause(context.Background())
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return own, func() { stop(); cancel(nil) }
}

// causeOf is why ctx has ended, if it has, and err otherwise.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
