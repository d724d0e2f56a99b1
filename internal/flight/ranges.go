package flight

import "sort"

// span is the bytes [start, end) of a blob.
type span struct{ start, end int64 }

// ranges is a sorted set of bytes, as disjoint spans that do not touch.
type ranges []span

// indexAfter returns the index of the first span that ends after off.
func (r ranges) indexAfter(off int64) int {
	return sort.Search(len(r), func(i int) bool { return r[i].end > off })
}

// end returns the end of the run of present bytes that off is in, off if it is
// not present.
func (r ranges) end(off int64) int64 {
	if i := r.indexAfter(off); i < len(r) && r[i].start <= off {
		return r[i].end
	}
	return off
}

// next returns where the first span that begins after off begins, -1 if none does.
func (r ranges) next(off int64) int64 {
	for i := r.indexAfter(off); i < len(r); i++ {
		if r[i].start > off {
			return r[i].start
		}
	}
	return -1
}

// prev returns the end of the last span that ends at or before off, 0 if none does.
func (r ranges) prev(off int64) int64 {
	if i := r.indexAfter(off); i > 0 {
		return r[i-1].end
	}
	return 0
}

// add returns the set with [start, end) in it.
func (r ranges) add(start, end int64) ranges {
	if end <= start {
		return r
	}
	i := sort.Search(len(r), func(i int) bool { return r[i].end >= start })
	j := i
	for j < len(r) && r[j].start <= end {
		start, end = min(start, r[j].start), max(end, r[j].end)
		j++
	}
	if i < j {
		r[i] = span{start, end}
		return append(r[:i+1], r[j:]...)
	}
	r = append(r, span{})
	copy(r[i+1:], r[i:])
	r[i] = span{start, end}
	return r
}
