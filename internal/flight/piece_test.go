package flight

import (
	"slices"
	"testing"
)

// TestPieces: which bytes a further connection brings.
func TestPieces(t *testing.T) {
	const mib = 1 << 20
	under := func(start, end, claimed int64) *segment {
		s := newSegment(span{start, end}, true)
		s.claimed = claimed
		return s
	}
	for name, c := range map[string]struct {
		have     ranges
		segments []*segment
		front    int64
		fronting bool
		last     bool
		want     span // zero if there is none
	}{
		"behind what the front brings soon": {ranges{{0, mib}}, nil, mib, true, false, span{3 * mib, 5 * mib}},
		"half of what the front brings":     {ranges{{0, 98 * mib}}, nil, 98 * mib, true, false, span{99 * mib, 100 * mib}},
		"the front has little left":         {ranges{{0, 99*mib + 1}}, nil, 99*mib + 1, true, false, span{}},
		"where the front is":                {ranges{{0, mib}}, nil, mib, false, false, span{mib, 3 * mib}},
		"the last ones":                     {ranges{{0, mib}}, nil, mib, true, true, span{99 * mib, 100 * mib}},
		"the last ones behind a hole":       {ranges{{0, mib}, {50 * mib, 60 * mib}}, nil, mib, true, true, span{99 * mib, 100 * mib}},
		"the last ones before others":       {ranges{{0, mib}}, []*segment{under(98*mib, 100*mib, 99*mib)}, mib, true, true, span{97 * mib, 98 * mib}},
		"a hole":                            {ranges{{0, mib}, {4 * mib, 5 * mib}}, []*segment{under(mib, 3*mib, 2*mib)}, mib, false, false, span{3 * mib, 4 * mib}},
		"behind the segments":               {ranges{{0, mib}}, []*segment{under(mib, 3*mib, 2*mib), under(3*mib, 5*mib, 3*mib)}, mib, false, false, span{5 * mib, 7 * mib}},
		"half of a segment":                 {ranges{{0, 90 * mib}}, []*segment{under(90*mib, 96*mib, 92*mib), under(96*mib, 100*mib, 99*mib)}, 90 * mib, false, false, span{94 * mib, 96 * mib}},
		"segments that are soon here":       {ranges{{0, 98 * mib}}, []*segment{under(98*mib, 100*mib, 98*mib+1)}, 98 * mib, false, false, span{}},
		"everything is here":                {ranges{{0, 100 * mib}}, nil, 100 * mib, false, false, span{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newContent(100*mib, false)
			f.have, f.front, f.fronting, f.segments.list = slices.Clone(c.have), c.front, c.fronting, c.segments
			got, ok := f.piece(mib, c.last)
			if got != c.want || ok != (c.want != span{}) {
				t.Errorf("%v, %v, want %v", got, ok, c.want)
			}
			for _, s := range c.segments {
				if ok && s.start < got.end && got.start < s.end {
					t.Errorf("the segment %v has some of %v", span{s.start, s.end}, got)
				}
			}
		})
	}
}
