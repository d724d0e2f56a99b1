package flight

import (
	"context"
	"errors"

	"github.com/pullthrough/pullthrough/upstream"
)

const maxSegmentFailures = 3

// segment is a piece of the blob that readers far ahead of the front wait for.
// Its bytes [start, end) are its own until it is done. f.mu guards all of it.
type segment struct {
	start, end int64         // end may still come nearer
	pos        int64         // all before it is present
	claimed    int64         // it is writing up to here
	more       chan struct{} // closed when bytes came or it ended
}

// demand makes sure that somebody brings the byte at off, which is not present,
// soon: the front, a segment that is under way, or a new one. f.mu is held.
func (f *Flight) demand(off int64) {
	if f.noRange || f.size < 0 || off >= f.size || !f.answered || len(f.segments) >= maxSegments || f.ctx.Err() != nil {
		return
	}
	if off <= max(f.claimed, f.have.end(f.front))+f.soon() {
		return
	}
	// From an aligned offset, so that readers of neighbouring ranges share it,
	// but from nothing that is present or that another one brings.
	start := max(off&^(segmentAlign-1), f.claimed, f.have.prev(off))
	end := min(start+segmentSize, f.size)
	if n := f.have.next(off); n >= 0 {
		end = min(end, n)
	}
	for _, s := range f.segments {
		switch {
		case s.end <= off:
			start = max(start, s.end)
		case s.start > off:
			end = min(end, s.start)
		case off <= s.claimed+f.soon():
			return // it brings off
		default: // it does, but too late: it leaves the rest to a new one
			start = max(start, s.claimed)
			end = min(end, s.end)
			s.end = start
		}
	}
	s := &segment{start: start, end: end, pos: start, claimed: start, more: make(chan struct{})}
	f.segments = append(f.segments, s)
	f.segmentsWG.Go(func() { f.bring(s) })
}

// soon is how many bytes the front brings in about two seconds. f.mu is held.
func (f *Flight) soon() int64 {
	if f.rate.second == 0 {
		return segmentSize
	}
	return max(1<<20, int64(2*f.rate.second))
}

// bring fills a segment.
func (f *Flight) bring(s *segment) {
	err := f.fetch(s)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, o := range f.segments {
		if o == s {
			f.segments = append(f.segments[:i], f.segments[i+1:]...)
			break
		}
	}
	f.segmentFailures++
	if err == nil {
		f.segmentFailures = 0
	}
	class, known := upstream.ClassOf(err)
	if f.segmentFailures >= maxSegmentFailures || known && class == upstream.Protocol {
		f.noRange = true // the front brings it in its time
	}
	close(s.more)
	for w := range f.waiters { // they look again who brings their bytes
		delete(f.waiters, w)
		close(w.ready)
	}
}

// fetch asks for a segment and writes what comes.
func (f *Flight) fetch(s *segment) error {
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	body, err := f.ask(ctx, cancel, s.start, s.end-s.start)
	if err != nil {
		return err
	}
	defer body.Close()
	if body.Offset != s.start {
		return f.protocol(errors.New("ranges are ignored"))
	}
	if err := f.mismatch(body.Size, f.sizeNow()); err != nil {
		return err
	}
	_, err = f.group.pump(ctx, cancel, body, f.least, func(data []byte) (bool, error) {
		return f.put(s, data)
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && s.pos < s.end {
		return errEnd
	}
	return err
}

// put writes what came for a segment; stop: it needs no more.
func (f *Flight) put(s *segment, data []byte) (stop bool, err error) {
	f.mu.Lock()
	pos := s.pos
	data = data[:min(int64(len(data)), s.end-pos)]
	s.claimed = pos + int64(len(data))
	f.mu.Unlock()
	if len(data) == 0 {
		return true, nil
	}
	if _, err := f.spool.WriteAt(data, pos); err != nil {
		f.failed(err)
		return true, err
	}
	f.publish(pos, int64(len(data)), false)
	f.mu.Lock()
	defer f.mu.Unlock()
	s.pos = s.claimed
	close(s.more)
	s.more = make(chan struct{})
	return s.pos == s.end, nil
}

// segmentsStop waits until no segment writes any more.
func (f *Flight) segmentsStop() {
	f.mu.Lock()
	f.noRange = true
	f.mu.Unlock()
	f.segmentsWG.Wait()
}
