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

// alone prepares for a flight that never had a spool: it learns the size, and
// fetches a small blob whole, so that it is verified before its header.
func (h *Handle) alone(ctx context.Context) (int64, error) {
	repo, err := h.f.req.Open(ctx)
	if err != nil {
		return 0, &goneError{err}
	}
	desc, err := repo.StatBlob(ctx, h.f.req.Digest)
	if err != nil {
		return 0, err
	}
	if desc.Size < 0 || desc.Size > HoldBack {
		return desc.Size, nil
	}
	var small sink
	if _, err := h.sendAlone(ctx, &small, 0, desc.Size, true); err != nil {
		return 0, err
	}
	h.small = small
	return desc.Size, nil
}

// sink gathers a small blob.
type sink []byte

func (s *sink) Write(p []byte) (int, error) {
	*s = append(*s, p...)
	return len(p), nil
}

// solo is the state of one who reads alone.
type solo struct {
	h    *Handle
	w    io.Writer
	off  int64 // next byte that w gets
	end  int64 // where w's bytes end; -1: at the end of the blob
	at   int64 // next byte of the upstream
	next int64 // next byte that is held for w
	hash hash.Hash
	held []byte // read, hashed, and not written yet
	size int64
	sent int64
}

// sendAlone does what Send does, from off on.
func (h *Handle) sendAlone(ctx context.Context, w io.Writer, off, n int64, whole bool) (int64, error) {
	if h.small != nil {
		end := int64(len(h.small))
		if n >= 0 {
			end = off + n
		}
		m, err := w.Write(h.small[off:end])
		return int64(m), err
	}
	f := h.f
	f.mu.Lock()
	state, size := f.state, f.size
	f.mu.Unlock()
	s := &solo{h: h, w: w, off: off, end: -1, at: off, size: size}
	if n >= 0 {
		s.end = off + n
	}
	if whole {
		if err := s.restore(state); err != nil {
			return 0, err
		}
		if s.off < s.at { // present, hashed and not sent: the flight's last bytes
			m, err := h.copy(w, s.off, s.at-s.off)
			s.off += m
			s.sent += m
			if err != nil {
				return s.sent, err
			}
		}
		s.next = s.off
	}
	err := s.run(ctx)
	return s.sent, err
}

// restore takes the flight's hash where it stopped.
func (s *solo) restore(state store.Progress) error {
	s.hash = s.h.f.req.Digest.Algorithm().Hash()
	s.at = 0
	u, ok := s.hash.(encoding.BinaryUnmarshaler)
	if !ok || state.Front == 0 || s.h.file == nil {
		return nil
	}
	if err := u.UnmarshalBinary(state.Hash); err != nil {
		return err
	}
	s.at = state.Front
	return nil
}

// run reads to the end, over cuts as long as there is progress.
func (s *solo) run(ctx context.Context) error {
	f := s.h.f
	own, cancel := context.WithCancelCause(context.Background()) // none of the client's values
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
	release, err := f.group.slots.acquire(own, f.req.Source.Host, false, nil)
	if err != nil {
		return err
	}
	defer release()
	for stalls := 0; ; {
		before := s.at
		done, err := s.connect(own)
		if done || own.Err() != nil {
			return err
		}
		if s.at-before < segmentAlign {
			stalls++
		}
		class, known := upstream.ClassOf(err)
		if stalls > 3 || known && class != upstream.Unreachable {
			return err
		}
	}
}

// connect reads one connection; done: there is nothing more to do.
func (s *solo) connect(ctx context.Context) (done bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := s.h.f
	repo, err := f.req.Open(ctx)
	if err != nil {
		return true, &goneError{err}
	}
	length := int64(-1)
	if s.hash == nil && s.end >= 0 {
		length = s.end - s.at
	}
	body, err := repo.Blob(ctx, f.req.Digest, s.at, length)
	if err != nil {
		return false, err
	}
	defer body.Close()
	if body.Offset > s.at || s.size >= 0 && body.Size >= 0 && s.size != body.Size {
		return true, f.protocol(errSize)
	}
	if body.Size >= 0 {
		s.size = body.Size
	}
	drop := s.at - body.Offset
	_, err = f.group.pump(ctx, cancel, body, func(data []byte) (bool, error) {
		d := min(drop, int64(len(data)))
		drop -= d
		err := s.take(data[d:])
		done = err != nil // it is the writer's
		return done || s.hash == nil && s.end >= 0 && s.at >= s.end, err
	})
	if err != nil || done {
		return done, err
	}
	return true, s.finish()
}

// take hashes data and writes what need not be held back.
func (s *solo) take(data []byte) error {
	s.at += int64(len(data))
	if s.hash == nil {
		if s.end >= 0 && s.at > s.end {
			data = data[:int64(len(data))-(s.at-s.end)]
		}
		return s.write(data)
	}
	_, _ = s.hash.Write(data)
	if old := s.next - (s.at - int64(len(data))); old > 0 {
		data = data[min(old, int64(len(data))):] // the client has these already
	}
	s.held = append(s.held, data...)
	s.next += int64(len(data))
	if free := len(s.held) - HoldBack; free > 0 {
		err := s.write(s.held[:free])
		s.held = append(s.held[:0], s.held[free:]...)
		return err
	}
	return nil
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
		if s.end >= 0 && s.off < s.end {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	if got := fmt.Sprintf("%x", s.hash.Sum(nil)); got != s.h.f.req.Digest.Encoded() {
		return s.h.f.protocol(fmt.Errorf("%w: got %s", ErrDigest, got))
	}
	return s.write(s.held)
}
