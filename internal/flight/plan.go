package flight

import (
	"math"
	"time"
)

// segments are the pieces of the blob that are fetched ahead of the front, for readers and
// by lanes.
type segments struct {
	list     []*segment
	failures int  // in a row
	off      bool // the upstream ignores ranges, or the flight ends
}

// segment is a piece of the blob that is fetched ahead of the front. Nobody else writes
// its bytes [start, end) until it is done.
type segment struct {
	start, end int64         // end may come nearer
	pos        int64         // every byte from start to pos is present
	claimed    int64         // it is writing up to here
	more       chan struct{} // closed when bytes came or it ended
	lane       bool          // no reader asked for it
}

func newSegment(p span, lane bool) *segment {
	return &segment{start: p.start, end: p.end, pos: p.start, claimed: p.start, more: make(chan struct{}), lane: lane}
}

// allowed reports whether another segment may begin for a reader.
func (s *segments) allowed() bool {
	n := 0
	for _, o := range s.list {
		if !o.lane {
			n++
		}
	}
	return !s.off && n < maxSegments
}

// add begins a segment with the byte at off, inside of within and beside all
// others. It returns nil if another one brings that byte soon. One that brings
// it too late leaves what it has not reached to the new one.
func (s *segments) add(off int64, within span, soon int64) *segment {
	for _, o := range s.list {
		switch {
		case o.end <= off:
			within.start = max(within.start, o.end)
		case o.start > off:
			within.end = min(within.end, o.start)
		case off <= o.claimed+soon:
			return nil
		default:
			within.start = max(within.start, o.claimed)
			within.end = min(within.end, o.end)
			o.end = within.start
		}
	}
	n := newSegment(within, false)
	s.list = append(s.list, n)
	return n
}

// remove takes an ended segment out.
func (s *segments) remove(old *segment) {
	for i, o := range s.list {
		if o == old {
			s.list = append(s.list[:i], s.list[i+1:]...)
			break
		}
	}
	close(old.more)
}

// count counts a segment that was not ended from here. After some failures in a row, or if
// final, no other one begins: the front brings the bytes in its time.
func (s *segments) count(failed, final bool) {
	s.failures++
	if !failed {
		s.failures = 0
	}
	if s.failures >= maxSegmentFailures || final {
		s.off = true
	}
}

// holding returns the segment that brings the byte at off, nil if none does.
func (s *segments) holding(off int64) *segment {
	for _, o := range s.list {
		if o.start <= off && off < o.end {
			return o
		}
	}
	return nil
}

// next returns the first byte from off on that a segment brings, math.MaxInt64
// if none does.
func (s *segments) next(off int64) int64 {
	next := int64(math.MaxInt64)
	for _, o := range s.list {
		if o.end > off {
			next = min(next, max(o.start, off))
		}
	}
	return next
}

// rate measures bytes per second over about half a second.
type rate struct {
	since     time.Time
	bytes     int64
	perSecond float64 // 0 if not known yet
}

func (r *rate) add(n int64) {
	now := time.Now()
	if r.since.IsZero() {
		r.since = now
		return
	}
	r.bytes += n
	if d := now.Sub(r.since); d >= 500*time.Millisecond {
		r.perSecond = float64(r.bytes) / d.Seconds()
		r.since, r.bytes = now, 0
	}
}

// soon is how many bytes come in about two seconds.
func (r *rate) soon() int64 {
	if r.perSecond == 0 {
		return segmentSize
	}
	return max(1<<20, int64(2*r.perSecond))
}
