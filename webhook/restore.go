package webhook

import (
	"container/heap"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/internal/backoff"
)

// load queues the events that a former process left, and drops those of receivers
// that do not exist any more.
func (b *outbox) load(byName map[string]*queue) error {
	gone := map[string]int{}
	err := b.keeper.load(b.life.ctx, func(key string, r queued) {
		q := byName[r.Receiver]
		if q == nil {
			gone[r.Receiver]++
			b.keeper.discard(b.life.ctx, key)
			return
		}
		q.restore(key, r, time.Now())
	})
	if err != nil {
		return err
	}
	for name, n := range gone {
		b.log.Warn("events for a receiver that is gone are dropped", "receiver", name, "events", n)
	}
	for _, q := range b.queues {
		q.order()
	}
	return nil
}

// restore adds an event of a former process to the queue. order follows. The times
// in the record are those of a clock that may have been set back since.
func (q *queue) restore(key string, r queued, now time.Time) {
	it := &item{key: key, id: r.Event.ID, created: r.Created, next: r.Next, attempts: r.Attempts, blame: blame{waits: true}}
	// A pause that is longer than any comes from such a clock, or from a long
	// Retry-After, which may be asked for again.
	it.created, it.next = backoff.Restore(it.created, it.next, now, 2*q.limits.pauses.Longest)
	q.items[key] = it
	q.due = append(q.due, it)
}

// order numbers the restored items from the oldest on, and makes a heap of them.
func (q *queue) order() {
	slices.SortFunc(q.due, func(a, b *item) int { return a.created.Compare(b.created) })
	for i, it := range q.due {
		q.seq++
		it.seq, it.index = q.seq, i
	}
	heap.Init(&q.due)
}
