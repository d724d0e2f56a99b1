package watch

import (
	"slices"
	"sync/atomic"
	"time"
)

// bounds are the upper ends of the buckets of a [Histogram], the last but one of which has
// no end. They never change.
var bounds = [...]time.Duration{
	time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Bounds returns the upper ends of the buckets of every [Histogram].
func Bounds() []time.Duration { return slices.Clone(bounds[:]) }

// Histogram counts durations. The zero value is empty. It is safe for concurrent use.
type Histogram struct {
	buckets [len(bounds) + 1]atomic.Int64
	sum     atomic.Int64
}

// observe counts a duration.
func (h *Histogram) observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// Read returns how many durations are at most as long as each of [Bounds], how many there
// are in all, and their sum.
func (h *Histogram) Read() (upTo []uint64, count uint64, sum time.Duration) {
	sum = time.Duration(h.sum.Load())
	for i := range h.buckets {
		count += uint64(h.buckets[i].Load())
		if i < len(bounds) {
			upTo = append(upTo, count)
		}
	}
	return upTo, count, sum
}

// FirstByte returns how long requests with an outcome took until their header.
func (r *Recorder) FirstByte(o Outcome) *Histogram { return &r.first[o.index()] }
