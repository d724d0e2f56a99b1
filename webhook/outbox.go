package webhook

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"
)

// Receiver is one receiver of an [Outbox].
type Receiver struct {
	// Name is unique in the outbox and names what is queued for the receiver, also
	// after a restart; what waits for a name that is gone then is dropped. It may
	// be shown.
	Name string
	// Sink gets the events. It must return when its context ends. A [StatusError]
	// tells more than another error: how long the receiver wants to be left alone,
	// and whether it refuses this event only.
	Sink Sink
	// Scope and Actions select events, as in [Filter]. If empty and nil, all.
	Scope   Scope
	Actions []string
}

// Records keeps small records. It is the method set of package store's Records,
// so that a store.Dir will do.
type Records interface {
	PutRecord(ctx context.Context, kind, key string, data []byte) error
	Record(ctx context.Context, kind, key string) ([]byte, error)
	DeleteRecord(ctx context.Context, kind, key string) error
	RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error]
}

// Outbox is a [Sink] that delivers events at least once to each of its receivers.
// Send returns when the event is on disk; delivering is another matter: each
// receiver has a queue of its own, so that one that is slow, hangs or is down
// delays no other and no copy. What fails is tried again with growing pauses and
// the same event ID. One event that fails does not hold back the others; when
// different ones fail in a row, the receiver is in trouble: it is left alone as a
// whole, with growing pauses too, and gets the rest when it answers again.
//
// A queue is bounded: the oldest event of a receiver makes room for a new one,
// which is logged and counted. Events are kept on disk; what waits costs some 350
// bytes of memory each, and only what is tried is rewritten.
//
// Fields must not change after first use. An Outbox is safe for concurrent use,
// also with different ones on one Records as long as Kind differs, and must not
// be copied.
type Outbox struct {
	// Receivers get the events. Without any, events are dropped.
	Receivers []Receiver
	// Records keeps what is not delivered. If nil, memory does, and the end of
	// the process loses it.
	Records Records
	// Kind is the kind of the records. If empty, "outbox".
	Kind string
	// Queue is how many events may wait for one receiver. If zero, 10,000.
	Queue int
	// AtOnce is how many deliveries to one receiver are under way at once. If
	// zero, 4. While a receiver is in trouble it is one.
	AtOnce int
	// FirstPause is the pause after a first failure; each is twice the one before,
	// up to LongestPause, and up to a quarter longer by chance. If zero, 1 second
	// and 15 minutes.
	FirstPause, LongestPause time.Duration
	// GiveUp is the age from which a try that fails is the last one of an event,
	// if it is not among its first three. If zero, 24 hours.
	GiveUp time.Duration
	// Timeout is when the context of a try ends. If zero, 1 minute.
	Timeout time.Duration
	// Recent is how many deliveries of each receiver are remembered. If zero, 100.
	Recent int
	// GaveUp is told of an event that is given up, with its last try, or that had
	// to make room: then Err is [ErrQueueFull]. It is called with no lock held, in
	// the second case before Send returns. If nil, only the log is told.
	GaveUp func(Delivery)
	// Logger gets what goes wrong. If nil, nothing is logged.
	Logger *slog.Logger

	mu     sync.Mutex // held while records are loaded
	box    *outbox
	closed bool
}

// Errors of an [Outbox].
var (
	// ErrClosed reports an Outbox that was shut down.
	ErrClosed = errors.New("webhook: the outbox was shut down")
	// ErrNoReceiver reports a receiver that is not there.
	ErrNoReceiver = errors.New("webhook: no such receiver")
	// ErrNoEvent reports an event that is neither queued nor among the recent
	// deliveries.
	ErrNoEvent = errors.New("webhook: no such event")
	// ErrQueueFull reports an event that was dropped to make room for another.
	ErrQueueFull = errors.New("webhook: the queue of the receiver is full")
)

// outbox is an Outbox at work.
type outbox struct {
	common
	queues []*queue
}

// start resolves the fields at first use, loads what a former process left and
// begins to deliver it. If that fails, the next use tries it again.
func (o *Outbox) start() (*outbox, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.box != nil {
		return o.box, nil
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &outbox{common: common{life: newLife(o.closed), keeper: newKeeper(o.Records, o.Kind, log), log: log, gaveUp: o.GaveUp, limits: limits{
		queue: or(o.Queue, 10000), atOnce: or(o.AtOnce, 4), recent: or(o.Recent, 100),
		giveUp: or(o.GiveUp, 24*time.Hour), timeout: or(o.Timeout, time.Minute),
		pauses: backoff{first: or(o.FirstPause, time.Second), longest: or(o.LongestPause, 15*time.Minute)},
	}}}
	if err := b.open(o.Receivers); err != nil {
		b.life.cancel()
		return nil, err
	}
	o.box = b
	for _, q := range b.queues {
		q.kick()
	}
	return b, nil
}

func or[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// open makes the queues, with what a former process left in them.
func (b *outbox) open(receivers []Receiver) error {
	byName := map[string]*queue{}
	for i, r := range receivers {
		switch {
		case r.Name == "":
			return fmt.Errorf("%w: receiver %d has no name", ErrConfig, i+1)
		case byName[r.Name] != nil:
			return fmt.Errorf("%w: two receivers have the name %q", ErrConfig, r.Name)
		case r.Sink == nil:
			return fmt.Errorf("%w: receiver %q has no sink", ErrConfig, r.Name)
		}
		err := r.Scope.Check()
		if c, ok := r.Sink.(interface{ Check() error }); ok && err == nil {
			err = c.Check()
		}
		if err != nil {
			return fmt.Errorf("%w: receiver %q: %w", ErrConfig, r.Name, err)
		}
		q := newQueue(&b.common, r)
		byName[r.Name] = q
		b.queues = append(b.queues, q)
	}
	return b.load(byName)
}

// Start loads what a former process left and begins to deliver it. The first use
// does the same. An error wraps [ErrConfig], or is that of Records.
func (o *Outbox) Start(context.Context) error {
	_, err := o.start()
	return err
}

// Send implements [Sink]. It returns when the event is on disk for every receiver
// that is to get it, and does not wait for any of them. An event that is queued
// is not queued twice; one without an ID gets one.
//
// After Shutdown events are still kept, for the next Outbox on these Records;
// without Records the error is [ErrClosed].
func (o *Outbox) Send(ctx context.Context, ev Event) error { return o.SendAll(ctx, []Event{ev}) }

// SendAll implements [Batcher]: the disk is waited for once.
func (o *Outbox) SendAll(ctx context.Context, events []Event) error {
	b, err := o.start()
	if err != nil {
		return err
	}
	if !b.keeper.durable() && b.life.isClosed() {
		return ErrClosed
	}
	took := map[*queue]bool{}
	for _, ev := range events {
		if ev.ID == "" {
			ev.ID = NewID()
		}
		if err = b.take(ctx, ev, took); err != nil {
			break
		}
	}
	if err == nil && len(took) > 0 {
		err = b.keeper.sync(ctx)
	}
	for q := range took { // also if all is sent again because another one failed
		q.kick()
	}
	return err
}

// take gives an event to the queues of those who are to get it, and notes which.
func (b *outbox) take(ctx context.Context, ev Event, took map[*queue]bool) error {
	for _, q := range b.queues {
		f := Filter{Scope: q.r.Scope, Actions: q.r.Actions}
		if !f.Selects(ev) {
			continue
		}
		if err := q.take(ctx, ev); err != nil {
			return err
		}
		took[q] = true
	}
	return nil
}

// Shutdown begins no more deliveries and waits for those under way, which are cut
// when ctx ends; then the error is that of ctx. What is not delivered stays in
// Records.
func (o *Outbox) Shutdown(ctx context.Context) error {
	o.mu.Lock()
	o.closed = true
	b := o.box
	o.mu.Unlock()
	if b == nil {
		return nil // it never worked
	}
	err := b.life.shutdown(ctx)
	for _, q := range b.queues {
		q.stop()
	}
	return err
}

// queue finds a receiver's queue.
func (b *outbox) queue(name string) (*queue, error) {
	for _, q := range b.queues {
		if q.r.Name == name {
			return q, nil
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrNoReceiver, name)
}
