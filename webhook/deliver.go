package webhook

import (
	"container/heap"
	"context"
	"time"
)

// kick delivers what is due.
func (q *queue) kick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dispatch()
}

// dispatch begins what may begin, and sets the clock for the rest. q.mu is held.
func (q *queue) dispatch() {
	for len(q.due) > 0 && !q.b.isClosed() {
		atOnce := q.b.limits.atOnce
		if q.failures > 0 {
			atOnce = 1
		}
		if q.busy >= atOnce {
			return // who ends looks again
		}
		if left := time.Until(later(q.due[0].next, q.rests())); left > 0 {
			q.wakeIn(left)
			return
		}
		it := heap.Pop(&q.due).(*item)
		if !q.b.spawn(func() { q.deliver(it) }) {
			heap.Push(&q.due, it)
			return
		}
		q.busy++
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wakeIn sets the clock. q.mu is held.
func (q *queue) wakeIn(d time.Duration) {
	if q.timer != nil {
		q.timer.Stop()
	}
	q.timer = time.AfterFunc(d, q.kick)
}

func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.timer != nil {
		q.timer.Stop()
	}
}

// deliver tries once.
func (q *queue) deliver(it *item) {
	ev, err := q.read(q.b.ctx, it)
	if err != nil {
		q.unread(it, err)
		return
	}
	ctx, cancel := context.WithTimeout(q.b.ctx, q.b.limits.timeout)
	d := deliver(ctx, q.r.Sink, ev)
	cancel()
	d.Receiver, d.Attempt = q.r.Name, it.attempts+1
	if q.b.ctx.Err() != nil && d.Err != nil {
		q.rejoin(it) // cut by Shutdown: it counts for nothing
		return
	}
	q.ended(it, d)
}

// ended decides what comes after a try.
func (q *queue) ended(it *item, d Delivery) {
	over := d.Err == nil || q.expired(it)
	if over {
		q.retire(it)
		q.erase(it)
	}
	now := time.Now()
	q.mu.Lock()
	it.attempts++
	switch {
	case d.Err == nil:
		q.counts.Delivered++
		q.answers()
	case over:
		q.counts.GaveUp++
		q.fails(it, d.Err, now)
	default:
		it.waits = q.fails(it, d.Err, now) && !it.pardoned
		it.next = now.Add(max(q.pause(it.attempts-1), retryAfterOf(d.Err)))
		d.Next = later(it.next, q.rests()).UTC()
	}
	q.remember(d)
	if over {
		q.forget(it)
	}
	q.mu.Unlock()

	log := q.b.log.With("receiver", q.r.Name, "event", it.id, "attempt", d.Attempt)
	switch {
	case d.Err != nil && over:
		log.Error("an event was not delivered and is given up", "err", d.Err)
		q.gaveUp(d)
	case d.Err != nil:
		if err := q.rewrite(it, d); err != nil {
			log.Error("the record of an event cannot be written", "err", err)
		}
		log.Warn("an event was not delivered and is tried again", "next", d.Next, "err", d.Err)
	}
	q.rejoin(it)
}

// rejoin ends a try: what is not over waits again.
func (q *queue) rejoin(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	if q.items[it.key] == it {
		if q.failures == 0 { // the receiver answered another one meanwhile
			it.pardon(time.Now())
		}
		heap.Push(&q.due, it)
	}
	q.dispatch()
}

// unread deals with a record that cannot be read. That may pass, as trouble with
// a disk does, so it is tried again as if the receiver had failed.
func (q *queue) unread(it *item, err error) {
	if q.b.ctx.Err() != nil {
		q.rejoin(it)
		return
	}
	over := q.expired(it)
	if over {
		q.retire(it)
		q.erase(it)
	}
	q.mu.Lock()
	it.attempts++
	it.next = time.Now().Add(q.pause(it.attempts - 1))
	if over {
		q.counts.GaveUp++
		q.forget(it)
	}
	q.mu.Unlock()
	log := q.b.log.With("receiver", q.r.Name, "event", it.id, "err", err)
	if over {
		log.Error("the record of an event cannot be read; it is given up")
		q.gaveUp(Delivery{Receiver: q.r.Name, Event: Event{ID: it.id}, Attempt: it.attempts, Time: time.Now().UTC(), Err: err, Error: err.Error()})
	} else {
		log.Error("the record of an event cannot be read; it is tried again", "next", it.next.UTC())
	}
	q.rejoin(it)
}
