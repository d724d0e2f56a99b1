package flight

import (
	"context"
	"encoding"
	"fmt"
	"hash"
	"io"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// A store that cannot keep a blob is no trouble of its readers: each goes on
// by itself from where the flight got to, within the same places, with a hash
// and a hold-back of its own.

// detached returns a context that ends with ctx and has none of its values.
func detached(ctx context.Context) (context.Context, func()) {
	own, cancel := context.WithCancelCause(context.Background())
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return own, func() { stop(); cancel(nil) }
}

// alone prepares a reader that has no file: it learns the size, and fetches a
// small blob whole, so that it is verified before its header.
func (h *Handle) alone(ctx context.Context) (int64, error) {
	f := h.f
	ctx, end := detached(ctx)
	defer end()
	brief, cancel := context.WithTimeoutCause(ctx, f.group.Answer, f.slow())
	defer cancel()
	told, err := f.stat(brief)
	if err == nil {
		err = f.mismatch(told, f.sizeNow())
	}
	if err != nil {
		return 0, causeOf(brief, err)
	}
	h.size = max(told, f.sizeNow())
	if !isSmall(h.size) {
		return h.size, nil
	}
	queue, cancel := context.WithTimeoutCause(ctx, f.group.Busy, ErrBusy)
	defer cancel()
	release, err := f.group.places.Acquire(queue, f.claim())
	if err != nil {
		return 0, err
	}
	defer release()
	brief, cancel = context.WithTimeoutCause(ctx, f.group.Answer, f.slow())
	defer cancel()
	small := sink{}
	s := &solo{h: h, w: &small, end: -1, size: h.size, hash: f.req.Digest.Algorithm().Hash(), tries: tries{live: true}}
	if err := s.run(brief); err != nil {
		return 0, causeOf(brief, err)
	}
	h.small = small
	return h.size, nil
}

// causeOf is why ctx has ended, if it has, and err otherwise.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// sink gathers a small blob.
type sink []byte

func (s *sink) Write(p []byte) (int, error) {
	*s = append(*s, p...)
	return len(p), nil
}

// solo is the state of one who reads alone. Of a whole blob, held is what is
// hashed and not written: off+len(held) is the next byte that is of any use.
type solo struct {
	h     *Handle
	w     io.Writer
	off   int64     // next byte that w gets
	end   int64     // where w's bytes end; -1: at the end of the blob
	at    int64     // next byte of the upstream
	size  int64     // -1: unknown
	hash  hash.Hash // nil: this is not the whole
	held  []byte
	sent  int64
	tries tries
}

// sendAlone does what Send does, from off on.
func (h *Handle) sendAlone(ctx context.Context, w io.Writer, off, n int64, whole bool) (int64, error) {
	if h.small != nil {
		m, err := w.Write(h.cut(off, n))
		return int64(m), err
	}
	f := h.f
	f.mu.Lock()
	state, size := f.state, max(f.size, h.size)
	f.mu.Unlock()
	s := &solo{h: h, w: w, off: off, end: -1, at: off, size: size, tries: tries{live: true}}
	if n >= 0 {
		s.end = off + n
	}
	if whole {
		s.end = -1
		if err := s.restore(state); err != nil {
			return s.sent, err
		}
	}
	own, end := detached(ctx)
	defer end()
	release, err := f.group.places.Acquire(own, f.claim())
	if err != nil {
		return s.sent, err
	}
	defer release()
	err = s.run(own)
	return s.sent, err
}

// cut returns n bytes of a small blob from off on.
func (h *Handle) cut(off, n int64) []byte {
	size := int64(len(h.small))
	end := size
	if n >= 0 {
		end = min(end, off+n)
	}
	return h.small[min(off, end):end]
}

// restore takes the flight's hash where it stopped, and what the reader can
// still have of the flight.
func (s *solo) restore(state store.Progress) error {
	s.hash = s.h.f.req.Digest.Algorithm().Hash()
	s.at = 0
	u, ok := s.hash.(encoding.BinaryUnmarshaler)
	if !ok || state.Front == 0 || s.h.file == nil {
		return nil
	}
	if err := u.UnmarshalBinary(state.Hash); err != nil {
		return fmt.Errorf("flight: the hash of a broken flight: %w", err)
	}
	s.at = state.Front
	if s.off > s.at {
		// The reader had more than the front, of a segment. It must be hashed as
		// the reader got it.
		if _, err := s.h.copy(s.hash, s.at, s.off-s.at); err != nil {
			return err
		}
		s.at = s.off
	}
	// Present, hashed and not sent. The end of it is held like everything else.
	if free := s.at - HoldBack - s.off; free > 0 {
		m, err := s.h.copy(s.w, s.off, free)
		s.off += m
		s.sent += m
		if err != nil {
			return err
		}
	}
	var tail sink
	_, err := s.h.copy(&tail, s.off, s.at-s.off)
	s.held = tail
	return err
}

// run reads to the end, over cuts as long as there is progress.
func (s *solo) run(ctx context.Context) error {
	for {
		before := s.at
		done, err := s.connect(ctx)
		if done {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		pause, again := s.tries.again(err, s.at-before, s.at)
		if !again {
			return err
		}
		if err := nap(ctx, pause); err != nil {
			return err
		}
	}
}

// connect reads one connection; done: there is nothing more to do.
func (s *solo) connect(ctx context.Context) (done bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := s.h.f
	offset, length := s.at, int64(-1)
	switch {
	case s.tries.whole:
		offset = 0
	case s.end >= 0:
		length = s.end - s.at
	}
	body, err := f.ask(ctx, cancel, offset, length)
	if err != nil {
		return false, err
	}
	defer body.Close()
	if err := s.accept(body); err != nil {
		return false, err
	}
	drop := s.at - body.Offset
	var writer error
	_, err = f.group.pump(ctx, cancel, body, func() int64 { return f.group.Least }, func(data []byte) (bool, error) {
		d := min(drop, int64(len(data)))
		drop -= d
		if s.size >= 0 && s.at+int64(len(data))-d > s.size {
			return true, f.protocol(ErrSize)
		}
		writer = s.take(data[d:])
		return writer != nil || s.end >= 0 && s.at >= s.end, writer
	})
	end := s.end
	if end < 0 {
		end = s.size
	}
	switch {
	case writer != nil:
		return true, writer
	case err != nil:
		return false, err
	case end >= 0 && s.at < end:
		return false, errEnd
	}
	return true, s.finish()
}

// accept checks what the upstream says that it sends.
func (s *solo) accept(body upstream.Body) error {
	f := s.h.f
	if body.Offset > s.at || body.Offset < 0 {
		return f.protocol(fmt.Errorf("asked for bytes from %d, got them from %d", s.at, body.Offset))
	}
	if err := f.mismatch(body.Size, s.size); err != nil {
		return err
	}
	s.size = max(s.size, body.Size)
	return f.tooLarge(s.size)
}

// take hashes data and writes what need not be held back.
func (s *solo) take(data []byte) error {
	at := s.at
	if err := s.h.f.tooLarge(at + int64(len(data))); err != nil {
		return err
	}
	s.at += int64(len(data))
	if s.hash == nil {
		if over := s.at - s.end; s.end >= 0 && over > 0 {
			data = data[:int64(len(data))-over]
		}
		return s.write(data)
	}
	_, _ = s.hash.Write(data)
	if old := s.off + int64(len(s.held)) - at; old > 0 {
		data = data[min(old, int64(len(data))):] // the reader had these before
	}
	s.held = append(s.held, data...)
	free := len(s.held) - HoldBack
	if free <= 0 {
		return nil
	}
	err := s.write(s.held[:free])
	s.held = append(s.held[:0], s.held[free:]...)
	return err
}

func (s *solo) write(data []byte) error {
	n, err := s.w.Write(data)
	s.off += int64(n)
	s.sent += int64(n)
	return err
}

// finish verifies and lets the last bytes go.
func (s *solo) finish() error {
	if s.hash == nil {
		return nil
	}
	if err := s.h.f.match(s.hash.Sum(nil)); err != nil {
		return err
	}
	return s.write(s.held)
}
