package flight

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// A segment that leaves its rest to another one ends where that begins, also if its
// reads do not.
func TestSegmentEndsWhereTheNextBegins(t *testing.T) {
	const size = 32 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = func(int, int64) fault { return fault{step: 15<<10 + 7, pause: 100 * time.Millisecond} }
		job := r.join(true)
		defer job.Close()
		time.Sleep(2 * time.Second)
		for _, off := range []int64{20 << 20, 26 << 20, 23 << 20} {
			if got, err := r.cut(off, 16<<10); err != nil || !bytes.Equal(got, r.up.data[off:off+16<<10]) {
				t.Errorf("range at %d: %d bytes, %v", off, len(got), err)
			}
		}
		if err := job.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		r.wantStored(true)
		r.wantConnections(5) // three segments, and the front before and behind them
	})
}

// An upstream that has ignored a range once is asked for no segment.
func TestNoSegmentsWhereRangesAreIgnored(t *testing.T) {
	const size = 32 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = func(n int, _ int64) fault {
			if n == 0 {
				return fault{cut: 1 << 20}
			}
			return fault{ignore: true, step: 64 << 10, pause: 10 * time.Millisecond}
		}
		job := r.join(true)
		defer job.Close()
		time.Sleep(time.Second)
		if got, err := r.cut(20<<20, 1<<20); err != nil || !bytes.Equal(got, r.up.data[20<<20:21<<20]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if err := job.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		r.wantStored(true)
		r.wantConnections(2)
	})
}

// TestSegmentsAreBesideEachOther: where a segment begins and ends, beside those that
// are there.
func TestSegmentsAreBesideEachOther(t *testing.T) {
	const soon = 10
	under := func(start, end, claimed int64) *segment {
		return &segment{start: start, end: end, pos: start, claimed: claimed, more: make(chan struct{})}
	}
	for name, c := range map[string]struct {
		there  []*segment
		off    int64
		within span
		want   span // zero if none begins
		shrunk int64
	}{
		"alone":                      {nil, 120, span{100, 200}, span{100, 200}, 0},
		"behind another":             {[]*segment{under(50, 110, 60)}, 120, span{100, 200}, span{110, 200}, 110},
		"before another":             {[]*segment{under(150, 300, 160)}, 120, span{100, 200}, span{100, 150}, 300},
		"between two":                {[]*segment{under(150, 300, 160), under(0, 110, 0)}, 120, span{100, 200}, span{110, 150}, 300},
		"one brings it soon":         {[]*segment{under(50, 300, 110)}, 120, span{100, 200}, span{}, 300},
		"one brings it almost soon":  {[]*segment{under(50, 300, 109)}, 120, span{100, 200}, span{109, 200}, 109},
		"one brings it too late":     {[]*segment{under(50, 150, 60)}, 120, span{100, 200}, span{100, 150}, 100},
		"one that has claimed a lot": {[]*segment{under(50, 300, 105)}, 120, span{100, 200}, span{105, 200}, 105},
	} {
		t.Run(name, func(t *testing.T) {
			s := segments{list: c.there}
			got := span{}
			n := s.add(c.off, c.within, soon)
			if n != nil {
				got = span{n.start, n.end}
			}
			if got != c.want {
				t.Errorf("the segment is %v, want %v", got, c.want)
			}
			if len(c.there) > 0 && c.there[0].end != c.shrunk {
				t.Errorf("the other one ends at %d, want %d", c.there[0].end, c.shrunk)
			}
			if n != nil && (s.holding(c.off) != n || s.next(c.off) != c.off) {
				t.Error("the new one does not hold the byte")
			}
		})
	}
}
