package flight

import (
	"testing"
)

// FuzzRanges compares the set with one bit for each byte.
func FuzzRanges(f *testing.F) {
	f.Add([]byte{0, 10, 20, 5, 10, 10, 3, 200, 255, 255})
	f.Add([]byte{5, 1, 7, 1, 6, 1, 0, 0, 4, 4})
	f.Fuzz(func(t *testing.T, ops []byte) {
		var set ranges
		var model [512]bool
		for ; len(ops) >= 2; ops = ops[2:] {
			start, n := int64(ops[0]), int64(ops[1])
			set = set.add(start, start+n)
			for i := start; i < start+n; i++ {
				model[i] = true
			}
			checkRanges(t, set, model[:])
		}
	})
}

func checkRanges(t *testing.T, set ranges, model []bool) {
	t.Helper()
	for i := 1; i < len(set); i++ {
		if set[i-1].end >= set[i].start {
			t.Fatalf("spans touch: %v", set)
		}
	}
	prev := int64(0) // end of the last run that ended at or before off
	for off := range int64(len(model)) {
		if off > 0 && model[off-1] && !model[off] {
			prev = off
		}
		end := off
		for end < int64(len(model)) && model[end] {
			end++
		}
		next := int64(-1)
		for i := off + 1; i < int64(len(model)); i++ {
			if model[i] && !model[i-1] {
				next = i
				break
			}
		}
		if got := set.end(off); got != end {
			t.Fatalf("end(%d) of %v is %d, want %d", off, set, got, end)
		}
		if got := set.next(off); got != next {
			t.Fatalf("next(%d) of %v is %d, want %d", off, set, got, next)
		}
		if got := set.prev(off); got != prev {
			t.Fatalf("prev(%d) of %v is %d, want %d", off, set, got, prev)
		}
	}
}
