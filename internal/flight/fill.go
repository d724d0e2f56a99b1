package flight

import (
	"context"
	"fmt"
	"hash"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// spoolSink fills a flight's spool in order: it is what moves the front. It is
// used by the goroutine of the download.
type spoolSink struct {
	f     *flight
	spool store.Spool
	hash  hash.Hash // of all bytes before the front
	tries tries

	reader io.ReadSeekCloser // of spool, once bytes were hashed that a segment brought

	checked     int64          // where the front was at the last checkpoint
	full        int64          // where it was at the last full one
	began       time.Time      // when the last checkpoint began, or the first bytes came
	checking    atomic.Bool    // a checkpoint is being written
	asking      atomic.Bool    // the rule is being asked
	checkpoints sync.WaitGroup // those that are being written, and what they ask
}

// next moves the front over what is present and waits for a segment that holds
// its next byte. The rest is asked for up to what is present or a segment brings.
func (s *spoolSink) next() (want span, complete bool, err error) {
	f := s.f
	for {
		f.mu.Lock()
		f.shift(false)
		front, present, size := f.front, f.have.end(f.front), f.size
		want = span{front, -1}
		if limit := f.limit(); limit < math.MaxInt64 {
			want.end = limit
		}
		var more <-chan struct{}
		o := f.segments.holding(front)
		if o != nil {
			more = o.more
		}
		if present == front && more == nil {
			f.shift(true)
		}
		f.mu.Unlock()
		switch {
		case present > front:
			if err := s.rehash(front, present); err != nil {
				return want, false, err
			}
		case size >= 0 && front >= size:
			return want, true, s.allowed()
		case more != nil:
			if err := s.await(o, more); err != nil {
				return want, false, err
			}
		default:
			return want, false, nil
		}
	}
}

// await waits until the segment that holds the front's next byte has brought more or has
// ended. If it brings nothing for a while, the front brings the rest itself.
func (s *spoolSink) await(o *segment, more <-chan struct{}) error {
	f := s.f
	timer := time.NewTimer(frontWait)
	defer timer.Stop()
	select {
	case <-more:
	case <-timer.C:
		f.mu.Lock()
		defer f.mu.Unlock()
		o.end = o.claimed
		f.lanes.pass(o)
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
	return nil
}

// rehash moves the front over bytes that a segment brought. It hashes them from
// the spool, so that what is hashed is what is stored.
func (s *spoolSink) rehash(from, to int64) error {
	f := s.f
	var err error
	if s.reader == nil {
		s.reader, err = s.spool.Open()
	}
	if err == nil {
		_, err = s.reader.Seek(from, io.SeekStart)
	}
	if err != nil {
		f.storeFailed(err)
		return broken(err)
	}
	buf := f.group.takeBuffer()
	defer f.group.buffers.Put(buf)
	for from < to && err == nil {
		var n int
		n, err = io.ReadFull(s.reader, (*buf)[:min(int64(len(*buf)), to-from)])
		_, _ = s.hash.Write((*buf)[:n])
		from += int64(n)
		f.mu.Lock()
		f.front, f.claimed = from, max(f.claimed, from)
		f.wake()
		f.mu.Unlock()
		s.checkpoint()
	}
	if err != nil {
		f.storeFailed(err)
		return broken(err)
	}
	return nil
}

// allowed asks the upstream whether this rule may read a complete blob of which
// this process has got no byte itself: all of it is a former process's.
func (s *spoolSink) allowed() error {
	f := s.f
	f.mu.Lock()
	granted, known := f.granted, f.size
	f.mu.Unlock()
	if granted {
		return nil
	}
	size, err := f.remote.probe(f.ctx)
	if err == nil {
		err = f.remote.checkSize(size, known)
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grant()
	return nil
}

// accept checks what the upstream says that it sends. Only after that may
// readers have what is present.
func (s *spoolSink) accept(body upstream.Body, took time.Duration) error {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	end := body.Offset + body.Length
	if err := f.remote.checkSize(body.Size, f.size); err != nil {
		return err
	}
	if err := f.remote.checkLargest(max(body.Size, end)); err != nil {
		return err
	}
	f.size = max(f.size, body.Size)
	if f.size >= 0 && end > f.size {
		return f.remote.unusable(fmt.Errorf("%w: %d bytes from %d on, of %d", ErrSize, body.Length, body.Offset, f.size))
	}
	if body.Offset < f.front {
		f.segments.off = true // the upstream ignores ranges
	}
	f.via = body.Via
	f.grant()
	f.accompany(took)
	return nil
}

// write moves the front over data, up to a byte that is present or that a
// segment brings.
func (s *spoolSink) write(data []byte) (stop bool, err error) {
	f := s.f
	for len(data) > 0 {
		front, n, err := s.reserve(int64(len(data)))
		if err != nil || n == 0 {
			return true, err
		}
		piece := data[:n]
		if _, err := s.spool.WriteAt(piece, front); err != nil {
			f.storeFailed(err)
			return true, broken(err)
		}
		_, _ = s.hash.Write(piece)
		f.mu.Lock()
		f.have = f.have.add(front, front+n)
		f.front = front + n
		f.came.arrive(n)
		f.rate.add(n)
		f.wake()
		f.mu.Unlock()
		s.checkpoint()
		data = data[n:]
	}
	return false, nil
}

// reserve returns where the front is, and how many of n bytes it may write there
// and from now on does: a segment begins behind them.
func (s *spoolSink) reserve(n int64) (front, may int64, err error) {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	may = min(n, f.limit()-f.front)
	if may == n && f.size >= 0 && f.front+n > f.size {
		return 0, 0, f.remote.unusable(fmt.Errorf("%w: more than %d bytes come", ErrSize, f.size))
	}
	if err := f.remote.checkLargest(f.front + may); err != nil {
		return 0, 0, err
	}
	f.claimed = f.front + may
	return f.front, may, nil
}

// judgeConnection decides whether the connection was complete, stopped at bytes
// that a segment holds, or ended early. If the size is unknown, a clean end
// tells it.
func (s *spoolSink) judgeConnection(body upstream.Body, n, taken int64) error {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	end := body.Offset + n
	switch {
	case f.size < 0 && (body.Length < 0 || s.tries.whole) && end >= f.front:
		f.size = end
	case f.front == f.size || f.limit() == f.front:
	case s.tries.whole && taken == 0: // that is all it has
		return f.remote.unusable(fmt.Errorf("%w: it ends at %d, not %d", ErrSize, end, f.size))
	default:
		return errEnd
	}
	return nil
}

// backOff decides about another connection. There is none after a slow one if no
// reader is left.
func (s *spoolSink) backOff(err error, taken, off int64) (time.Duration, error) {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	s.tries.answered = f.answered
	if f.unwanted() && tooSlow(err) {
		return 0, ErrAbandoned
	}
	pause, again := s.tries.next(err, taken, off)
	if !again {
		return 0, f.remote.final(err)
	}
	if class, _ := upstream.ClassOf(err); s.tries.whole || class == upstream.Limited {
		f.segments.off = true
	}
	return pause, nil
}
