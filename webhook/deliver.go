package webhook

import (
	"container/heap"
	"context"
	"time"
)

// kick begins the deliveries that may begin now, and sets the timer for the first
// one that may begin later. Each delivery kicks again when it ends.
func (q *queue) kick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.mayBegin() {
		if wait := time.Until(later(q.due[0].next, q.health.restsUntil())); wait > 0 {
			if q.timer == nil {
				q.timer = time.AfterFunc(wait, q.kick)
			} else {
				q.timer.Reset(wait)
			}
			return
		}
		it := heap.Pop(&q.due).(*item)
		if !q.life.spawn(func() { q.deliver(it); q.kick() }) {
			heap.Push(&q.due, it)
			return
		}
		q.busy++
	}
}

// mayBegin reports whether one more delivery is allowed, once it is due. q.mu is
// held.
func (q *queue) mayBegin() bool {
	atOnce := q.limits.atOnce
	if !q.health.well() {
		atOnce = 1
	}
	return len(q.due) > 0 && q.busy < atOnce && !q.life.isClosed()
}

// stop stops the timer.
func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.timer != nil {
		q.timer.Stop()
	}
}

// deliver tries an item once, and puts it back if it has not ended. A try that is
// cut by Shutdown does not count.
func (q *queue) deliver(it *item) {
	ctx := q.life.ctx
	ev, err := q.keeper.read(ctx, it)
	switch {
	case err == nil:
		if d := q.try(ctx, it, ev); d.Err == nil || ctx.Err() == nil {
			q.ended(it, d)
		}
	case ctx.Err() == nil:
		q.unread(it, err)
	}
	q.putBack(it)
}

func (q *queue) try(ctx context.Context, it *item, ev Event) Delivery {
	ctx, cancel := context.WithTimeout(ctx, q.limits.timeout)
	defer cancel()
	d := deliver(ctx, q.r.Sink, ev)
	d.Receiver, d.Attempt = q.r.Name, it.attempts+1
	return d
}

// ended decides what comes after a try.
func (q *queue) ended(it *item, d Delivery) {
	over := d.Err == nil || it.expired(q.limits.giveUp)
	if over {
		q.retire(it)
	}
	d = q.count(it, d, over, time.Now())
	log := q.log.With("receiver", q.r.Name, "event", it.id, "attempt", d.Attempt)
	switch {
	case d.Err == nil:
	case over:
		log.Error("an event was not delivered and is given up", "err", d.Err)
		q.reportGaveUp(d)
	default:
		if err := q.keeper.write(context.WithoutCancel(q.life.ctx), q.r.Name, it, d.Event, d.Error); err != nil {
			log.Error("the record of an event cannot be written", "err", err)
		}
		log.Warn("an event was not delivered and is tried again", "next", d.Next, "err", d.Err)
	}
}

// count notes what a try means for its item, for the receiver and for the items that
// wait for it. It returns d with the time of the next try, if there is one.
func (q *queue) count(it *item, d Delivery, over bool, now time.Time) Delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	it.attempts++
	var recovered bool
	if d.Err == nil {
		recovered = q.health.answered()
	} else {
		recovered = q.health.failed(&it.blame, d.Err, now)
	}
	if recovered {
		q.due.pardon(now)
	}
	switch {
	case d.Err == nil:
		q.counts.Delivered++
	case over:
		q.counts.GaveUp++
	default:
		it.next = now.Add(max(q.limits.pauses.Pause(it.attempts-1), retryAfterOf(d.Err)))
		d.Next = later(it.next, q.health.restsUntil()).UTC()
	}
	q.recent.add(d)
	if over {
		q.forget(it)
	}
	return d
}

// putBack ends a delivery: an item that has not ended waits again.
func (q *queue) putBack(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	if q.items[it.key] != it {
		return
	}
	if q.health.well() { // the receiver answered another delivery meanwhile
		it.pardon(time.Now())
	}
	heap.Push(&q.due, it)
}

// unread counts a try of an item whose record cannot be read. The cause may pass, as
// trouble with a disk does, so the item is tried again like one that failed. That is
// no failure of the receiver.
func (q *queue) unread(it *item, err error) {
	over := it.expired(q.limits.giveUp)
	if over {
		q.retire(it)
	}
	q.mu.Lock()
	it.attempts++
	it.next = time.Now().Add(q.limits.pauses.Pause(it.attempts - 1))
	if over {
		q.counts.GaveUp++
		q.forget(it)
	}
	q.mu.Unlock()
	log := q.log.With("receiver", q.r.Name, "event", it.id, "err", err)
	if !over {
		log.Error("the record of an event cannot be read; it is tried again", "next", it.next.UTC())
		return
	}
	log.Error("the record of an event cannot be read; it is given up")
	q.reportGaveUp(Delivery{Receiver: q.r.Name, Event: Event{ID: it.id}, Attempt: it.attempts, Time: time.Now().UTC(), Err: err, Error: err.Error()})
}
