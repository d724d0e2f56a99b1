package webhook

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Enlister is an optional ability of a [Sink] that keeps events as records: its caller
// can then write them in one transaction with what the events tell of, so that either
// both have happened or nothing has.
type Enlister interface {
	// Enlist prepares to take events over. The result is nil, without an error, if the
	// sink does not keep its events in these records: then use Send. Otherwise Done must
	// be called.
	Enlist(ctx context.Context, in Records, events []Event) (*Enlistment, error)
}

// Enlistment is events that are about to be taken over.
type Enlistment struct {
	// Records keep the events. The caller writes all of them.
	Records []Record
	// Done tells the sink that the records were written, or with an error that they were
	// not; then the sink forgets the events. It is called once.
	Done func(err error)
}

// Record is a record that is to be written.
type Record struct {
	Kind, Key string
	Data      []byte
}

// Enlist implements [Enlister]: the records are those of the receivers that select the
// events. An event that is queued already has none.
func (o *Outbox) Enlist(ctx context.Context, in Records, events []Event) (*Enlistment, error) {
	if o.Records == nil || !same(o.Records, in) {
		return nil, nil
	}
	b, err := o.start()
	if err != nil {
		return nil, err
	}
	taken, err := b.claim(ctx, events)
	if err != nil {
		return nil, err
	}
	e := &Enlistment{Done: func(err error) {
		for _, t := range taken {
			t.queue.written(context.WithoutCancel(ctx), t.item, err)
		}
		kickAll(taken)
	}}
	for _, t := range taken {
		r, err := b.keeper.record(t.queue.r.Name, t.item, t.event, "")
		if err != nil {
			e.Done(err)
			return nil, err
		}
		e.Records = append(e.Records, r)
	}
	return e, nil
}

// same reports whether two values are the same. Values that cannot be compared are not.
func same(a, b Records) (is bool) {
	defer func() { _ = recover() }()
	return a == b
}

// taken is an event that was entered into a queue, and is not kept yet.
type taken struct {
	queue *queue
	item  *item
	event Event
}

// claim enters events into the queues of the receivers that select them. Those that are
// queued already are left out.
func (b *outbox) claim(ctx context.Context, events []Event) (all []taken, err error) {
	defer func() {
		if err != nil {
			for _, t := range all {
				t.queue.written(ctx, t.item, err)
			}
			all = nil
		}
	}()
	for _, ev := range events {
		if ev.ID == "" {
			ev.ID = NewID()
		}
		for _, q := range b.queues {
			if f := (Filter{Scope: q.r.Scope, Actions: q.r.Actions}); !f.Selects(ev) {
				continue
			}
			it := q.newItem(ev)
			if slices.ContainsFunc(all, func(t taken) bool { return t.queue == q && t.item.key == it.key }) {
				continue // claim would wait for ourselves
			}
			claimed, err := q.claim(ctx, it)
			if err != nil {
				return all, q.notKept(err)
			}
			if claimed {
				all = append(all, taken{q, it, ev})
			}
		}
	}
	return all, nil
}

// writesAtOnce is how many records are written at once.
const writesAtOnce = 256

// keep keeps events that were claimed, at once, so that a store which gathers writes
// makes one of them. It returns the first error; what was kept stays.
func (b *outbox) keep(ctx context.Context, all []taken) error {
	errs := make([]error, len(all))
	var group errgroup.Group
	group.SetLimit(writesAtOnce)
	for i, t := range all {
		group.Go(func() error {
			errs[i] = b.keeper.write(ctx, t.queue.r.Name, t.item, t.event, "")
			return nil
		})
	}
	_ = group.Wait()
	var first error
	for i, t := range all { // in the order of the events
		t.queue.written(ctx, t.item, errs[i])
		if errs[i] != nil && first == nil {
			first = t.queue.notKept(errs[i])
		}
	}
	return first
}

// kickAll lets the queues of events deliver.
func kickAll(all []taken) {
	for i, t := range all {
		if i == 0 || t.queue != all[i-1].queue {
			t.queue.kick()
		}
	}
}

func (q *queue) notKept(err error) error {
	return fmt.Errorf("webhook: %s: the event cannot be kept: %w", q.r.Name, err)
}
