package webhook

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"
)

// ReceiverState is the state of one receiver of an [Outbox].
type ReceiverState struct {
	Name string `json:"name"`
	// Queued is how many events wait or are on their way. Oldest is when the oldest of
	// them was taken over. It is zero if there are none.
	Queued int       `json:"queued"`
	Oldest time.Time `json:"oldest,omitzero"`
	// Failures counts the deliveries that failed since the receiver last answered.
	// Paused is until when the receiver is left alone. It is zero if it is not.
	Failures int       `json:"failures"`
	Paused   time.Time `json:"paused,omitzero"`
	// Delivered, GaveUp and Dropped count events since the Outbox was first used: those
	// that the receiver took over, those that were given up for their age, and those
	// that made room for others.
	Delivered int64 `json:"delivered"`
	GaveUp    int64 `json:"gaveUp"`
	Dropped   int64 `json:"dropped"`
}

// States returns the state of each receiver, in the order of Receivers. It returns nil
// if Start returns an error.
func (o *Outbox) States() []ReceiverState {
	b, err := o.start()
	if err != nil {
		return nil
	}
	var all []ReceiverState
	for _, q := range b.queues {
		all = append(all, q.state())
	}
	return all
}

func (q *queue) state() ReceiverState {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.counts
	s.Name, s.Queued, s.Failures = q.r.Name, len(q.items), q.health.failures
	if rests := q.health.restsUntil(); rests.After(time.Now()) {
		s.Paused = rests.UTC()
	}
	for _, it := range q.items {
		if s.Oldest.IsZero() || it.created.Before(s.Oldest) {
			s.Oldest = it.created.UTC()
		}
	}
	return s
}

// Waits implements [Waiter]: it reports whether one of the events is queued for a receiver
// or on its way to one. It reads no record. After Shutdown, what was not delivered waits for
// the next Outbox on these Records.
func (o *Outbox) Waits(_ context.Context, ids ...string) bool {
	b, err := o.start()
	if err != nil {
		return true // what a former process left is not known
	}
	return slices.ContainsFunc(b.queues, func(q *queue) bool { return q.waits(ids) })
}

func (q *queue) waits(ids []string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(ids, func(id string) bool { return q.items[recordKey(q.r.Name, id)] != nil })
}

// Deliveries returns the last tries of a receiver, the newest first. They are kept in
// memory only. Errors are [ErrNoReceiver] and those of Start.
func (o *Outbox) Deliveries(receiver string) ([]Delivery, error) {
	q, err := o.find(receiver)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.recent.all(), nil
}

func (o *Outbox) find(receiver string) (*queue, error) {
	b, err := o.start()
	if err != nil {
		return nil, err
	}
	return b.queue(receiver)
}

// Resend makes an event the next one that its receiver gets, with the same ID, and
// ends the time in which the receiver is left alone. The event is one that waits, or
// one of Deliveries. Errors are [ErrNoReceiver], [ErrNoEvent], [ErrClosed] and those of
// Send.
func (o *Outbox) Resend(ctx context.Context, receiver, eventID string) error {
	q, err := o.find(receiver)
	if err != nil {
		return err
	}
	if q.life.isClosed() {
		return ErrClosed
	}
	if q.hurry(eventID) {
		q.kick()
		return nil
	}
	deliveries, err := o.Deliveries(receiver)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(deliveries, func(d Delivery) bool { return d.Event.ID == eventID })
	if i < 0 {
		return fmt.Errorf("%w: %s for %s", ErrNoEvent, eventID, receiver)
	}
	if err := q.take(ctx, deliveries[i].Event); err != nil {
		return err
	}
	q.hurry(eventID)
	q.kick()
	return nil
}

// hurry makes an event that waits the next one, and ends the time in which its
// receiver is left alone. It reports false if the event is not queued. An event that
// is on its way stays as it is. kick follows.
func (q *queue) hurry(eventID string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[recordKey(q.r.Name, eventID)]
	if it == nil {
		return false
	}
	q.health.hurry()
	if it.index >= 0 {
		it.next = time.Time{}
		heap.Fix(&q.due, it.index)
	}
	return true
}

// Ping sends a ping to a receiver at once, past its queue, and returns the delivery,
// with its error in Err. A receiver that takes the ping over is not left alone any
// longer. Errors of Ping itself are [ErrNoReceiver], [ErrClosed] and those of Start.
func (o *Outbox) Ping(ctx context.Context, receiver string) (Delivery, error) {
	q, err := o.find(receiver)
	if err != nil {
		return Delivery{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, q.limits.timeout)
	defer cancel()
	defer context.AfterFunc(q.life.ctx, cancel)()
	done := make(chan Delivery, 1)
	if !q.life.spawn(func() { done <- deliver(ctx, q.r.Sink, Ping()) }) {
		return Delivery{}, ErrClosed
	}
	d := <-done
	d.Receiver, d.Attempt = receiver, 1
	q.pinged(d)
	if d.Err == nil {
		q.kick()
	}
	return d, nil
}

func (q *queue) pinged(d Delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.recent.add(d)
	if d.Err == nil && q.health.pinged() {
		q.due.pardon(time.Now())
	}
}
