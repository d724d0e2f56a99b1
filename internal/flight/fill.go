package flight

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/pullthrough/pullthrough/internal/share"
	"github.com/pullthrough/pullthrough/upstream"
)

// claim is what a download of this blob claims of the places.
func (f *Flight) claim() share.Claim {
	return share.Claim{Rule: f.req.Source.Rule, Host: f.req.Source.Host}
}

// download fills the spool until the digest is known.
func (f *Flight) download() error {
	claim := f.claim()
	claim.Copy, claim.Promoted = f.req.Job, f.promoted
	release, err := f.group.places.Acquire(f.ctx, claim)
	if err != nil {
		return err
	}
	defer release()
	err = f.openSpool()
	close(f.placed) // from here on it is the upstream that is waited for, and no slow disk
	if err != nil {
		return err
	}
	for {
		complete, err := f.skip()
		before := f.at()
		switch {
		case err != nil:
		case complete:
			if err = f.allowed(); err == nil {
				return f.match(f.hash.Sum(nil))
			}
		default:
			err = f.connection()
		}
		if err == nil {
			f.tries.stalls = 0
			continue
		}
		if f.ctx.Err() != nil { // whatever came of that
			return context.Cause(f.ctx)
		}
		if err := f.again(err, f.at()-before); err != nil {
			return err
		}
	}
}

// orphanRate is how many bytes per second a connection must bring that nobody waits
// for, or its place is somebody else's.
const orphanRate = 64 << 10

// least is how many bytes per second a connection must bring.
func (f *Flight) least() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.clients == 0 && f.jobs == 0 {
		return max(orphanRate, f.group.Least)
	}
	return f.group.Least
}

// tooLarge reports a blob of at least n bytes that is larger than may be.
func (f *Flight) tooLarge(n int64) error {
	if most := f.group.Largest; most > 0 && n > most {
		return f.protocol(fmt.Errorf("%w: more than %d bytes", ErrTooLarge, most))
	}
	return nil
}

// again waits before the next connection; it returns err if there is none.
func (f *Flight) again(err error, progress int64) error {
	f.mu.Lock()
	f.tries.live = f.answered
	at := f.front
	unwanted := f.clients == 0 && f.jobs == 0
	f.mu.Unlock()
	if unwanted && (errors.Is(err, errIdle) || errors.Is(err, errSlow)) {
		return ErrAbandoned
	}
	pause, again := f.tries.again(err, progress, at)
	if !again {
		return f.final(err)
	}
	if f.tries.whole {
		f.mu.Lock()
		f.noRange = true
		f.mu.Unlock()
	}
	return nap(f.ctx, pause)
}

// connection asks for what is missing at the front and takes what comes.
func (f *Flight) connection() error {
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	offset, length := f.gap()
	body, err := f.ask(ctx, cancel, offset, length)
	if err != nil {
		return err
	}
	defer body.Close()
	front := f.at()
	if err := f.accept(body, front); err != nil {
		return err
	}
	drop := front - body.Offset // what an upstream sends that ignores ranges
	n, err := f.group.pump(ctx, cancel, body, f.least, func(data []byte) (bool, error) {
		d := min(drop, int64(len(data)))
		drop -= d
		return f.advance(data[d:])
	})
	if err != nil {
		return err
	}
	return f.ended(body, n, front)
}

// ended judges a connection that ended by itself, or because the next bytes are
// somebody else's, after n bytes. before is where the front was.
func (f *Flight) ended(body upstream.Body, n, before int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := body.Offset + n
	switch {
	case f.size < 0 && (body.Length < 0 || f.tries.whole) && end >= f.front: // a clean end tells the size
		f.size = end
	case f.front == f.size || f.limit() == f.front:
	case f.tries.whole && f.front == before: // that is all it has
		return f.protocol(fmt.Errorf("%w: it ends at %d, not %d", ErrSize, end, f.size))
	default:
		return errEnd
	}
	return nil
}

// gap is what the front asks for: up to what somebody else has.
func (f *Flight) gap() (offset, length int64) {
	if f.tries.whole {
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
	if body.Offset > front || body.Offset < 0 {
		return f.protocol(fmt.Errorf("asked for bytes from %d, got them from %d", front, body.Offset))
	}
	if err := f.mismatch(body.Size, f.size); err != nil {
		return err
	}
	if err := f.tooLarge(max(body.Size, body.Offset+body.Length)); err != nil {
		return err
	}
	f.size = max(f.size, body.Size)
	if f.size >= 0 && body.Offset+body.Length > f.size {
		return f.protocol(fmt.Errorf("%w: %d bytes from %d on, of %d", ErrSize, body.Length, body.Offset, f.size))
	}
	if body.Offset < front {
		f.noRange = true
	}
	f.answer()
	return nil
}

func (f *Flight) sizeNow() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// reserve says how much of n bytes the front may write, and that it does. A
// segment begins behind that.
func (f *Flight) reserve(n int64) (front, may int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	may = min(n, f.limit()-f.front)
	if may == n && f.size >= 0 && f.front+n > f.size {
		return 0, 0, f.protocol(fmt.Errorf("%w: more than %d bytes come", ErrSize, f.size))
	}
	if err := f.tooLarge(f.front + may); err != nil {
		return 0, 0, err
	}
	f.claimed = f.front + may
	return f.front, may, nil
}

// advance moves the front over data; stop: the next byte is somebody else's.
func (f *Flight) advance(data []byte) (stop bool, err error) {
	for len(data) > 0 {
		front, may, err := f.reserve(int64(len(data)))
		if err != nil || may == 0 {
			return true, err
		}
		piece := data[:may]
		if _, err := f.spool.WriteAt(piece, front); err != nil {
			f.failed(err)
			return true, broken(err)
		}
		_, _ = f.hash.Write(piece)
		f.publish(front, may, true)
		f.vouch()
		data = data[may:]
	}
	return false, nil
}

// skip moves the front over what is present, waits for a segment that is
// there, and tells whether everything is present.
func (f *Flight) skip() (complete bool, err error) {
	for {
		f.mu.Lock()
		front, end, size := f.front, f.have.end(f.front), f.size
		var more <-chan struct{}
		for _, s := range f.segments {
			if s.start <= front && front < s.end {
				more = s.more
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
		case more != nil:
			select {
			case <-more:
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
	if err != nil {
		f.failed(err)
		return broken(err)
	}
	defer r.Close()
	_, err = r.Seek(from, io.SeekStart)
	buf := f.group.takeBuffer()
	defer f.group.buffers.Put(buf)
	for from < to && err == nil {
		var n int
		n, err = io.ReadFull(r, (*buf)[:min(int64(len(*buf)), to-from)])
		_, _ = f.hash.Write((*buf)[:n])
		from += int64(n)
		f.mu.Lock()
		f.front, f.claimed = from, max(f.claimed, from)
		f.wake()
		f.mu.Unlock()
		f.vouch()
	}
	if err != nil {
		f.failed(err)
		return broken(err)
	}
	return nil
}

// allowed asks the upstream whether this rule may read what is complete without
// a byte from this process's connections: all of it is a former process's.
func (f *Flight) allowed() error {
	f.mu.Lock()
	granted, size := f.granted, f.size
	f.mu.Unlock()
	if granted {
		return nil
	}
	told, err := f.probe(f.ctx)
	if err == nil {
		err = f.mismatch(told, size)
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.answer()
	f.mu.Unlock()
	return nil
}
