package webhook

import (
	"container/heap"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
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

func recordKey(receiver, event string) string {
	h := sha256.Sum256([]byte(receiver + "\x00" + event))
	return hex.EncodeToString(h[:16])
}

// write keeps an event, in memory if there are no Records.
func (q *queue) write(ctx context.Context, it *item, ev Event, failed string) error {
	if q.b.cfg.Records == nil {
		it.event = &ev
		return nil
	}
	data, err := json.Marshal(queued{q.r.Name, ev, it.created.UTC(), it.attempts, it.next.UTC(), failed})
	if err != nil {
		return err
	}
	return q.b.cfg.Records.PutRecord(ctx, q.b.kind, it.key, data)
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
	data, err := q.b.cfg.Records.Record(ctx, q.b.kind, it.key)
	var r queued
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	return r.Event, err
}

// erase deletes the record of an item. If that fails, the event is delivered once
// more after a restart.
func (q *queue) erase(it *item) {
	if it.event != nil {
		return
	}
	if err := q.b.cfg.Records.DeleteRecord(context.WithoutCancel(q.b.ctx), q.b.kind, it.key); err != nil {
		q.b.log.Warn("the record of an event cannot be deleted", "receiver", q.r.Name, "event", it.id, "err", err)
	}
}

// load finds what a former process left. What cannot be read counts as missing,
// and what waits for a receiver that is gone is dropped.
func (b *outbox) load(byName map[string]*queue) error {
	gone := map[string]int{}
	for key, err := range b.cfg.Records.RecordKeys(b.ctx, b.kind) {
		if err != nil {
			return fmt.Errorf("webhook: the queued events cannot be listed: %w", err)
		}
		r, err := b.readRecord(key)
		if err != nil {
			b.log.Error("the record of an event cannot be read", "kind", b.kind, "key", key, "err", err)
			continue
		}
		q := byName[r.Receiver]
		if q == nil {
			gone[r.Receiver]++
			_ = b.cfg.Records.DeleteRecord(b.ctx, b.kind, key)
			continue
		}
		q.restore(key, r)
	}
	for name, n := range gone {
		b.log.Warn("events for a receiver that is gone are dropped", "receiver", name, "events", n)
	}
	for _, q := range b.queues {
		q.settle()
	}
	return nil
}

func (b *outbox) readRecord(key string) (r queued, err error) {
	data, err := b.cfg.Records.Record(b.ctx, b.kind, key)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err == nil && recordKey(r.Receiver, r.Event.ID) != key {
		err = errors.New("it is that of another one")
	}
	return r, err
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
