package webhook

import (
	"container/heap"
	"time"
)

// item is an event that waits for a receiver. queue.mu guards it, but the delivery
// of an item may read without it what only a delivery changes.
type item struct {
	key      string
	id       string
	created  time.Time
	next     time.Time
	seq      uint64 // in the order of arrival
	attempts int
	index    int // in the heap, or -1 while the item is not in it
	blame    blame
	event    *Event        // if nil, the event is in a record
	writing  chan struct{} // if not nil, the record is being written or erased; closed at the end of that
}

// pardon makes an item due if its receiver, which was at fault, has recovered.
func (it *item) pardon(now time.Time) {
	if it.blame.pardon() && it.next.After(now) {
		it.next = now
	}
}

// fewTries are too few to give up an event: it may be old because the process was
// down, and fail because everything starts at once.
const fewTries = 3

// expired reports whether a try of the item that fails is its last one.
func (it *item) expired(giveUp time.Duration) bool {
	return time.Since(it.created) >= giveUp && it.attempts >= fewTries
}

// due is a heap of items, ordered by when they are next.
type due []*item

func (d due) Len() int { return len(d) }
func (d due) Less(i, j int) bool {
	if !d[i].next.Equal(d[j].next) {
		return d[i].next.Before(d[j].next)
	}
	return d[i].seq < d[j].seq
}
func (d due) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}
func (d *due) Push(x any) {
	it := x.(*item)
	it.index = len(*d)
	*d = append(*d, it)
}
func (d *due) Pop() any {
	old := *d
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	it.index = -1
	return it
}

// pardon makes the items due that failed because their receiver was in trouble.
func (d due) pardon(now time.Time) {
	for _, it := range d {
		it.pardon(now)
	}
	heap.Init(&d)
}
