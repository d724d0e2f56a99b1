package webhook

import (
	"cmp"
	"container/heap"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/internal/backoff"
)

// common is what the queues of an outbox share.
type common struct {
	life   *life
	limits limits
	keeper keeper
	log    *slog.Logger
	gaveUp func(Delivery) // may be nil
}

// reportGaveUp hands an event that is not delivered to the user of the Outbox. No lock
// is held.
func (c *common) reportGaveUp(d Delivery) {
	if c.gaveUp != nil {
		c.gaveUp(d)
	}
}

// limits are the numbers of an Outbox, with the defaults filled in.
type limits struct {
	queue, atOnce, recent int
	giveUp, timeout       time.Duration
	pauses                backoff.Backoff
}

// queue is what waits for one receiver.
type queue struct {
	*common
	r Receiver

	mu       sync.Mutex
	items    map[string]*item // by key: those that wait, and those under way
	due      due              // those that wait
	seq      uint64           // of the last item
	busy     int              // deliveries under way
	health   health
	timer    *time.Timer // calls kick; nil until the first wait
	recent   history
	counts   ReceiverState
	dropping bool // logged that events are dropped
}

func newQueue(c *common, r Receiver) *queue {
	return &queue{common: c, r: r, items: map[string]*item{},
		health: health{pauses: c.limits.pauses}, recent: history{size: c.limits.recent}}
}

// newItem makes an item of an event, which claim enters.
func (q *queue) newItem(ev Event) *item {
	now := time.Now()
	return &item{key: recordKey(q.r.Name, ev.ID), id: ev.ID, created: now, next: now, index: -1, writing: make(chan struct{})}
}

// take keeps an event, unless it is queued already. kick follows.
func (q *queue) take(ctx context.Context, ev Event) error {
	it := q.newItem(ev)
	claimed, err := q.claim(ctx, it)
	if claimed {
		err = q.keeper.write(ctx, q.r.Name, it, ev, "")
		q.written(ctx, it, err)
	}
	if err != nil {
		return q.notKept(err)
	}
	return nil
}

// claim enters an item and reports true, or false if its event is queued already.
// While the record of the queued item is written or erased, it is not known yet
// whether that item stays, so claim waits.
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
		writing := old.writing
		q.mu.Unlock()
		if writing == nil {
			return false, nil
		}
		select {
		case <-writing:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// written queues an item whose record was written, or forgets it if err is not nil.
// The oldest items make room only now: an item that cannot be kept must not cost
// another one.
func (q *queue) written(ctx context.Context, it *item, err error) {
	q.mu.Lock()
	if err != nil {
		q.forget(it)
		q.mu.Unlock()
		return
	}
	heap.Push(&q.due, it)
	close(it.writing)
	it.writing = nil
	old, first := q.crowded()
	q.mu.Unlock()
	if first {
		q.log.Error("the queue of a receiver is full; the oldest events make room", "receiver", q.r.Name, "queue", q.limits.queue)
	}
	for _, it := range old {
		q.drop(ctx, it)
	}
}

// crowded takes the oldest items out of a queue that is too long. first reports
// whether that is to be logged, which is once until the queue is half empty again.
// q.mu is held.
func (q *queue) crowded() (old []*item, first bool) {
	if len(q.due) <= q.limits.queue/2 {
		q.dropping = false
	}
	for len(q.due) > q.limits.queue {
		it := slices.MinFunc(q.due, func(a, b *item) int { return cmp.Compare(a.seq, b.seq) })
		heap.Remove(&q.due, it.index)
		it.writing = make(chan struct{})
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
	if q.gaveUp != nil {
		if ev, err := q.keeper.read(ctx, it); err == nil {
			d.Event = ev
		}
	}
	q.keeper.erase(ctx, q.r.Name, it)
	q.mu.Lock()
	q.forget(it)
	q.mu.Unlock()
	q.reportGaveUp(d)
}

// retire erases the record of an item that has ended. The item is marked before, so
// that claim does not take it for one that waits. forget follows.
func (q *queue) retire(it *item) {
	q.mu.Lock()
	it.writing = make(chan struct{})
	q.mu.Unlock()
	q.keeper.erase(context.WithoutCancel(q.life.ctx), q.r.Name, it)
}

// forget removes an item. q.mu is held.
func (q *queue) forget(it *item) {
	delete(q.items, it.key)
	close(it.writing)
}
