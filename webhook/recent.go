package webhook

import (
	"container/heap"
	"context"
	"fmt"
	"time"
)

// ReceiverState is how it stands with a receiver of an [Outbox].
type ReceiverState struct {
	Name string `json:"name"`
	// Queued events wait or are on their way; Oldest is when the oldest of them
	// was taken over, zero if there is none.
	Queued int       `json:"queued"`
	Oldest time.Time `json:"oldest,omitzero"`
	// Failures of the receiver in a row, and until when it is left alone for them.
	Failures int       `json:"failures"`
	Paused   time.Time `json:"paused,omitzero"`
	// Delivered, GaveUp and Dropped count events since the Outbox was made: taken
	// by the receiver, given up for their age, and those that made room.
	Delivered int64 `json:"delivered"`
	GaveUp    int64 `json:"gaveUp"`
	Dropped   int64 `json:"dropped"`
}

// States tells how it stands with each receiver, in the order of Receivers.
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
	s.Name, s.Queued, s.Failures = q.r.Name, len(q.items), q.failures
	if q.paused.After(time.Now()) {
		s.Paused = q.paused.UTC()
	}
	for _, it := range q.items {
		if s.Oldest.IsZero() || it.created.Before(s.Oldest) {
			s.Oldest = it.created.UTC()
		}
	}
	return s
}

// remember keeps a delivery for the log of recent ones. q.mu is held.
func (q *queue) remember(d Delivery) {
	if len(q.recent) < q.b.limits.recent {
		q.recent = append(q.recent, d)
		q.newest = len(q.recent) - 1
		return
	}
	q.newest = (q.newest + 1) % len(q.recent)
	q.recent[q.newest] = d
}

// Deliveries returns the recent tries of a receiver, the newest first. They are
// in memory only. The error is [ErrNoReceiver].
func (o *Outbox) Deliveries(receiver string) ([]Delivery, error) {
	q, err := o.find(receiver)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.recent)
	all := make([]Delivery, 0, n)
	for i := range n {
		all = append(all, q.recent[(q.newest-i+n)%n])
	}
	return all, nil
}

func (o *Outbox) find(receiver string) (*queue, error) {
	b, err := o.start()
	if err != nil {
		return nil, err
	}
	return b.queue(receiver)
}

// Resend delivers an event again, with the same ID: one that is among the recent
// deliveries, or one that waits, which is due at once then. Errors are
// [ErrNoReceiver], [ErrNoEvent] and those of Send.
func (o *Outbox) Resend(ctx context.Context, receiver, eventID string) error {
	q, err := o.find(receiver)
	if err != nil {
		return err
	}
	if q.hurry(eventID) {
		return nil
	}
	deliveries, err := o.Deliveries(receiver)
	if err != nil {
		return err
	}
	for _, d := range deliveries {
		if d.Event.ID != eventID {
			continue
		}
		if err := q.take(ctx, d.Event); err != nil {
			return fmt.Errorf("webhook: %s: the event cannot be kept: %w", receiver, err)
		}
		q.kick()
		return nil
	}
	return fmt.Errorf("%w: %s for %s", ErrNoEvent, eventID, receiver)
}

// hurry makes an event due that waits, and its receiver too.
func (q *queue) hurry(eventID string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[recordKey(q.r.Name, eventID)]
	if it == nil {
		return false
	}
	q.paused = time.Time{}
	if it.index >= 0 {
		it.next = time.Now()
		heap.Fix(&q.due, it.index)
	}
	q.dispatch()
	return true
}

// Ping sends a ping to a receiver at once, past its queue, and returns what came
// of it. The error is [ErrNoReceiver]; that of the delivery is in the Delivery.
func (o *Outbox) Ping(ctx context.Context, receiver string) (Delivery, error) {
	q, err := o.find(receiver)
	if err != nil {
		return Delivery{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, q.b.limits.timeout)
	defer cancel()
	d := deliver(ctx, q.r.Sink, Ping())
	d.Receiver = receiver
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remember(d)
	return d, nil
}
