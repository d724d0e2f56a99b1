package webhook

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// item is an event that waits for a receiver. queue.mu guards it.
type item struct {
	key      string
	id       string
	created  time.Time
	next     time.Time
	seq      uint64
	attempts int
	index    int    // in the heap; -1: it is being written, delivered or gone
	waits    bool   // it failed by its receiver's fault
	event    *Event // nil: it is in a record
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
	paused   time.Time // it is left alone until then
	timer    *time.Timer
	recent   []Delivery // a ring
	newest   int
	counts   ReceiverState
	dropping bool // said once
}

func newQueue(b *outbox, r Receiver) *queue {
	return &queue{b: b, r: r, items: map[string]*item{}}
}

// take keeps an event. One that is queued already is not queued twice.
func (q *queue) take(ctx context.Context, ev Event) error {
	it := &item{key: recordKey(q.r.Name, ev.ID), id: ev.ID, created: time.Now(), index: -1}
	it.next = it.created
	q.mu.Lock()
	if q.items[it.key] != nil {
		q.mu.Unlock()
		return nil
	}
	old := q.crowded()
	q.seq++
	it.seq = q.seq
	q.items[it.key] = it
	q.mu.Unlock()
	if old != nil {
		q.drop(ctx, old)
	}
	if q.b.cfg.Records == nil {
		it.event = &ev
	} else if err := q.write(ctx, it, ev, ""); err != nil {
		q.mu.Lock()
		delete(q.items, it.key)
		q.mu.Unlock()
		return err
	}
	q.mu.Lock()
	heap.Push(&q.due, it)
	q.mu.Unlock()
	return nil
}

// crowded takes the oldest item out if the queue is full. q.mu is held.
func (q *queue) crowded() *item {
	if len(q.items) < q.b.limits.queue {
		q.dropping = false
		return nil
	}
	var oldest *item
	for _, it := range q.due {
		if oldest == nil || it.seq < oldest.seq {
			oldest = it
		}
	}
	if oldest == nil {
		return nil
	}
	heap.Remove(&q.due, oldest.index)
	delete(q.items, oldest.key)
	q.counts.Dropped++
	if !q.dropping {
		q.b.log.Error("the queue of a receiver is full; the oldest events make room", "receiver", q.r.Name, "queue", q.b.limits.queue)
	}
	q.dropping = true
	return oldest
}

// drop forgets an item that is out of the queue.
func (q *queue) drop(ctx context.Context, it *item) {
	ev, err := q.read(ctx, it)
	q.erase(it)
	if q.b.cfg.GaveUp != nil && err == nil {
		q.b.cfg.GaveUp(Delivery{Receiver: q.r.Name, Event: ev, Attempt: it.attempts, Error: "the queue is full"})
	}
}

// kick delivers what is due.
func (q *queue) kick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dispatch()
}

// dispatch begins what may begin, and sets the clock for the rest. q.mu is held.
func (q *queue) dispatch() {
	for len(q.due) > 0 {
		atOnce := q.b.limits.atOnce
		if q.failures > 0 {
			atOnce = 1
		}
		if q.busy >= atOnce {
			return // who ends looks again
		}
		at := q.due[0].next
		if q.paused.After(at) {
			at = q.paused
		}
		if left := time.Until(at); left > 0 {
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
		q.lost(it, err)
		return
	}
	ctx, cancel := context.WithTimeout(q.b.ctx, q.b.limits.timeout)
	d := deliver(ctx, q.r.Sink, ev)
	cancel()
	d.Receiver, d.Attempt = q.r.Name, it.attempts+1
	if q.b.ctx.Err() != nil && d.Err != nil { // cut by Shutdown: it counts for nothing
		q.mu.Lock()
		defer q.mu.Unlock()
		q.busy--
		heap.Push(&q.due, it)
		return
	}
	if d.Err == nil {
		q.erase(it)
	}
	q.ended(it, &d)
}

// ended decides what comes after a try.
func (q *queue) ended(it *item, d *Delivery) {
	now := time.Now()
	q.mu.Lock()
	it.attempts++
	gaveUp := d.Err != nil && now.Sub(it.created) >= q.b.limits.giveUp
	switch {
	case d.Err == nil:
		q.counts.Delivered++
		delete(q.items, it.key)
		q.answers()
	case gaveUp:
		q.counts.GaveUp++
		delete(q.items, it.key)
		q.fails(d.Err, now)
	default:
		it.waits = q.fails(d.Err, now)
		it.next = now.Add(q.pause(it.attempts - 1))
		d.Next = it.next.UTC()
	}
	q.remember(*d)
	q.mu.Unlock()

	log := q.b.log.With("receiver", q.r.Name, "event", it.id, "attempt", d.Attempt)
	switch {
	case gaveUp:
		q.erase(it)
		log.Error("an event was not delivered and is given up", "err", d.Err)
		if q.b.cfg.GaveUp != nil {
			q.b.cfg.GaveUp(*d)
		}
	case d.Err != nil:
		if err := q.rewrite(it, *d); err != nil {
			log.Error("the record of an event cannot be written", "err", err)
		}
		log.Warn("an event was not delivered and is tried again", "next", d.Next, "err", d.Err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	if q.items[it.key] == it {
		heap.Push(&q.due, it)
	}
	q.dispatch()
}

// answers notes that the receiver works. What failed by its fault is due again.
// q.mu is held.
func (q *queue) answers() {
	if q.failures == 0 {
		return
	}
	q.failures, q.paused = 0, time.Time{}
	now := time.Now()
	for _, it := range q.due {
		if it.waits && it.next.After(now) {
			it.next, it.waits = now, false
		}
	}
	heap.Init(&q.due)
}

// fails notes a failure and reports whether it is the receiver's: then it is left
// alone as a whole. A receiver that refuses one event with a 4xx may well take
// the next. q.mu is held.
func (q *queue) fails(err error, now time.Time) bool {
	status, ok := errors.AsType[*StatusError](err)
	if ok && status.StatusCode/100 == 4 && status.StatusCode != http.StatusTooManyRequests && status.StatusCode != http.StatusRequestTimeout {
		q.answers()
		return false
	}
	pause := q.pause(q.failures)
	if ok {
		pause = max(pause, status.RetryAfter)
	}
	q.failures++
	if until := now.Add(pause); until.After(q.paused) {
		q.paused = until
	}
	return true
}

// pause is how long to wait after n failures before, with up to a quarter more.
func (q *queue) pause(n int) time.Duration {
	l := q.b.limits
	d := l.longestPause
	if n < 30 {
		d = min(d, l.firstPause<<n)
	}
	if d <= 0 { // the shift went over
		d = l.longestPause
	}
	return d + rand.N(d/4+1)
}

// lost drops an item whose record cannot be read.
func (q *queue) lost(it *item, err error) {
	if q.b.ctx.Err() == nil {
		q.b.log.Error("the record of an event cannot be read; it is lost", "receiver", q.r.Name, "event", it.id, "err", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	delete(q.items, it.key)
	q.dispatch()
}
