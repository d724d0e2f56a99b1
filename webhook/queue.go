package webhook

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// item is an event that waits for a receiver. queue.mu guards it; what only its
// delivery changes may be read by that without it.
type item struct {
	key      string
	id       string
	created  time.Time
	next     time.Time
	seq      uint64
	era      uint64 // of the queue, when it failed last
	attempts int
	index    int           // in the heap; -1: it is being written, delivered or gone
	waits    bool          // it failed by its receiver's fault and is due when that answers
	pardoned bool          // that happened once, and does not again
	event    *Event        // nil: it is in a record
	settled  chan struct{} // closed when its record is written or erased; nil: nobody does either
}

// due orders items by when they are next.
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

// queue is what waits for one receiver.
type queue struct {
	b *outbox
	r Receiver

	mu       sync.Mutex
	items    map[string]*item // by key
	due      due
	seq      uint64
	busy     int
	failures int       // of the receiver, in a row
	strikes  int       // different events among them
	era      uint64    // grows when the receiver answers after failures
	paused   time.Time // it is left alone until then
	asked    time.Time // it asked for that, and an answer to another event does not end it
	timer    *time.Timer
	recent   []Delivery // a ring
	newest   int
	counts   ReceiverState
	dropping bool // said once
}

func newQueue(b *outbox, r Receiver) *queue {
	return &queue{b: b, r: r, items: map[string]*item{}, era: 1}
}

// take keeps an event. One that is queued already is not queued twice. The caller
// kicks.
func (q *queue) take(ctx context.Context, ev Event) error {
	it := &item{key: recordKey(q.r.Name, ev.ID), id: ev.ID, created: time.Now(), index: -1, settled: make(chan struct{})}
	it.next = it.created
	claimed, err := q.claim(ctx, it)
	if claimed {
		err = q.write(ctx, it, ev, "")
		q.written(ctx, it, err)
	}
	if err != nil {
		return fmt.Errorf("webhook: %s: the event cannot be kept: %w", q.r.Name, err)
	}
	return nil
}

// claim enters an item unless its event is queued already. While the record of
// that is written or erased, which may fail, nobody knows: it waits for the end.
func (q *queue) claim(ctx context.Context, it *item) (bool, error) {
	for {
		q.mu.Lock()
		old := q.items[it.key]
		if old == nil {
			q.seq++
			it.seq = q.seq
			q.items[it.key] = it
			q.mu.Unlock()
			return true, nil
		}
		settled := old.settled
		q.mu.Unlock()
		if settled == nil {
			return false, nil
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// written queues an item whose record was written, or forgets it. Only now the
// oldest make room: a new one that cannot be kept must not cost an old one.
func (q *queue) written(ctx context.Context, it *item, err error) {
	q.mu.Lock()
	if err != nil {
		q.forget(it)
		q.mu.Unlock()
		return
	}
	heap.Push(&q.due, it)
	close(it.settled)
	it.settled = nil
	old, first := q.crowded()
	q.mu.Unlock()
	if first {
		q.b.log.Error("the queue of a receiver is full; the oldest events make room", "receiver", q.r.Name, "queue", q.b.limits.queue)
	}
	for _, it := range old {
		q.drop(ctx, it)
	}
}

// crowded takes the oldest items out of a queue that is too long, and reports
// whether that is to be said: once, until it is half empty again. q.mu is held.
func (q *queue) crowded() (old []*item, first bool) {
	if len(q.due) <= q.b.limits.queue/2 {
		q.dropping = false
	}
	for len(q.due) > q.b.limits.queue {
		it := slices.MinFunc(q.due, func(a, b *item) int { return cmp.Compare(a.seq, b.seq) })
		heap.Remove(&q.due, it.index)
		it.settled = make(chan struct{})
		q.counts.Dropped++
		old = append(old, it)
		first = !q.dropping
	}
	q.dropping = q.dropping || first
	return old, first
}

// drop ends an item that makes room.
func (q *queue) drop(ctx context.Context, it *item) {
	ctx = context.WithoutCancel(ctx)
	d := Delivery{Receiver: q.r.Name, Event: Event{ID: it.id}, Attempt: it.attempts, Time: time.Now().UTC(),
		Err: ErrQueueFull, Error: ErrQueueFull.Error()}
	if q.b.cfg.GaveUp != nil {
		if ev, err := q.read(ctx, it); err == nil {
			d.Event = ev
		}
	}
	q.erase(it)
	q.mu.Lock()
	q.forget(it)
	q.mu.Unlock()
	q.gaveUp(d)
}

func (q *queue) gaveUp(d Delivery) {
	if q.b.cfg.GaveUp != nil {
		q.b.cfg.GaveUp(d)
	}
}

// rests is until when the receiver is left alone. q.mu is held.
func (q *queue) rests() time.Time { return later(q.paused, q.asked) }

// retire marks an item that has ended, so that nobody takes it for one that waits
// while its record is erased. forget follows.
func (q *queue) retire(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it.settled = make(chan struct{})
}

// forget takes an item out. q.mu is held.
func (q *queue) forget(it *item) {
	delete(q.items, it.key)
	close(it.settled)
}
