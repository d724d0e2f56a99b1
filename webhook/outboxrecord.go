package webhook

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/internal/recordset"
)

// queued is the record of an event that waits for a receiver.
type queued struct {
	Receiver string    `json:"receiver"`
	Event    Event     `json:"event"`
	Created  time.Time `json:"created"`
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Error    string    `json:"error,omitempty"` // of the last try
}

func recordKey(receiver, event string) string { return recordset.Key(receiver, event) }

// newRecords returns the records of events that wait, or nil if there are none.
func newRecords(r Records, kind string) *recordset.Set[queued] {
	if r == nil {
		return nil
	}
	s := &recordset.Set[queued]{Records: r, Kind: kind, Check: func(key string, r queued) error {
		if recordKey(r.Receiver, r.Event.ID) != key {
			return errors.New("its event is another one")
		}
		return nil
	}}
	s.Syncer, _ = r.(recordset.Syncer)
	return s
}

// write keeps an event, in memory if there are no Records.
func (q *queue) write(ctx context.Context, it *item, ev Event, failed string) error {
	if q.b.records == nil {
		it.event = &ev
		return nil
	}
	return q.b.records.Put(ctx, it.key, queued{q.r.Name, ev, it.created.UTC(), it.attempts, it.next.UTC(), failed})
}

// rewrite keeps what a try has changed. The item is with its delivery.
func (q *queue) rewrite(it *item, d Delivery) error {
	return q.write(context.WithoutCancel(q.b.ctx), it, d.Event, d.Error)
}

// read returns the event of an item.
func (q *queue) read(ctx context.Context, it *item) (Event, error) {
	if it.event != nil {
		return *it.event, nil
	}
	r, err := q.b.records.Get(ctx, it.key)
	return r.Event, err
}

// erase deletes the record of an item. If that fails, the event is delivered once
// more after a restart.
func (q *queue) erase(it *item) {
	if it.event != nil {
		return
	}
	if err := q.b.records.Delete(context.WithoutCancel(q.b.ctx), it.key); err != nil {
		q.b.log.Warn("the record of an event cannot be deleted", "receiver", q.r.Name, "event", it.id, "err", err)
	}
}

// load finds what a former process left. A record that cannot be read is logged and
// kept, and what waits for a receiver that is gone is dropped.
func (b *outbox) load(byName map[string]*queue) error {
	gone := map[string]int{}
	err := b.records.Load(b.ctx, func(key string, r queued, err error) {
		if err != nil {
			b.log.Error("the record of an event cannot be read", "kind", b.records.Kind, "key", key, "err", err)
			return
		}
		q := byName[r.Receiver]
		if q == nil {
			gone[r.Receiver]++
			_ = b.records.Delete(b.ctx, key)
			return
		}
		q.restore(key, r)
	})
	if err != nil {
		return fmt.Errorf("webhook: the queued events cannot be loaded: %w", err)
	}
	for name, n := range gone {
		b.log.Warn("events for a receiver that is gone are dropped", "receiver", name, "events", n)
	}
	for _, q := range b.queues {
		q.settle()
	}
	return nil
}

// restore queues an event of a former process.
func (q *queue) restore(key string, r queued) {
	it := &item{key: key, id: r.Event.ID, created: r.Created, next: r.Next, attempts: r.Attempts, waits: true}
	now := time.Now()
	if it.created.After(now) { // the clock went back
		it.created = now
	}
	if it.next.After(now.Add(2 * q.b.limits.longestPause)) { // the same, or it was shut out for long: ask again
		it.next = now
	}
	q.items[key] = it
	q.due = append(q.due, it)
}

// settle puts what was restored in order: the oldest first.
func (q *queue) settle() {
	slices.SortFunc(q.due, func(a, b *item) int { return a.created.Compare(b.created) })
	for i, it := range q.due {
		q.seq++
		it.seq, it.index = q.seq, i
	}
	heap.Init(&q.due)
}
