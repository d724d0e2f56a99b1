package flight

import (
	"errors"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// demand makes sure that the byte at off, which is not present, comes soon: by
// the front, by a segment that is under way, or by a new one. f.mu is held.
func (f *flight) demand(off int64) {
	if f.ctx.Err() != nil {
		return
	}
	if s := f.plan(off); s != nil {
		f.fetchers.Go(func() { f.fetch(s) })
	}
}

// fetch fills a segment.
func (f *flight) fetch(s *segment) {
	f.mu.Lock()
	want := span{s.start, s.end}
	f.mu.Unlock()
	_, err := f.connect(f.ctx, want, false, segmentReceiver{f, s})
	class, known := upstream.ClassOf(err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.segments.remove(s)
	f.segments.count(err != nil, known && class == upstream.Protocol || hopeless(err))
	f.wakeAll()
}

// stopSegments waits until no segment writes any more.
func (f *flight) stopSegments() {
	f.mu.Lock()
	f.segments.off = true
	f.mu.Unlock()
	f.fetchers.Wait()
}

// segmentReceiver writes a segment into the spool.
type segmentReceiver struct {
	f *flight
	s *segment
}

// accept takes no response that begins before the segment: the front brings
// those bytes.
func (r segmentReceiver) accept(body upstream.Body, _ time.Duration) error {
	if body.Offset != r.s.start {
		return r.f.remote.unusable(errors.New("ranges are ignored"))
	}
	return r.f.remote.checkSize(body.Size, r.f.sizeNow())
}

// write writes data up to the end of the segment, which may have come nearer.
func (r segmentReceiver) write(data []byte) (stop bool, err error) {
	f, s := r.f, r.s
	f.mu.Lock()
	pos := s.pos
	n := min(int64(len(data)), s.end-pos)
	s.claimed = pos + n
	f.mu.Unlock()
	if n == 0 {
		return true, nil
	}
	if _, err := f.spool.get().WriteAt(data[:n], pos); err != nil {
		f.storeFailed(err)
		return true, broken(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have = f.have.add(pos, pos+n)
	f.came.arrive(n)
	s.pos = s.claimed
	close(s.more)
	s.more = make(chan struct{})
	f.wake()
	return s.pos == s.end, nil
}

// judgeConnection says whether the segment is complete.
func (r segmentReceiver) judgeConnection(upstream.Body, int64, int64) error {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if r.s.pos < r.s.end {
		return errEnd
	}
	return nil
}
