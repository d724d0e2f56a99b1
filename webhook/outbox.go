package webhook

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/internal/backoff"
)

// Receiver is one receiver of an [Outbox].
type Receiver struct {
	// Name is unique in the outbox. Queued events belong to it, also after a restart:
	// then events are dropped whose receiver does not exist any more. The name
	// appears in logs and errors, so it must not be secret.
	Name string
	// Sink gets the events. It must return when its context ends. From a
	// [StatusError] the outbox learns more than from another error: how long the
	// receiver wants to be left alone, and whether it refuses this event only.
	Sink Sink
	// Scope and Actions select events, as in [Filter]. If empty and nil, they select
	// every event.
	Scope   Scope
	Actions []string
}

// Records keeps small records. It is the method set of package store's Records, so
// that a store.Dir can be used.
type Records interface {
	PutRecord(ctx context.Context, kind, key string, data []byte) error
	Record(ctx context.Context, kind, key string) ([]byte, error)
	DeleteRecord(ctx context.Context, kind, key string) error
	RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error]
}

// Outbox is a [Sink] that delivers events at least once to each of its receivers.
// Send returns when the event is on disk. The event is delivered after that: each
// receiver has a queue of its own, so that a receiver which is slow, hangs or is down
// delays neither copies nor other receivers. An event that fails is tried again with
// growing pauses and the same ID, and does not hold back others. When several events
// fail in a row, the receiver is in trouble: it is left alone as a whole, also with
// growing pauses, and gets the rest when it answers again.
//
// Each queue is bounded: the oldest event of a receiver makes room for a new one,
// which is logged and counted. Events are kept on disk. One that waits takes some 350
// bytes of memory, and its record is written again only after a try.
//
// Fields must not change after first use. An Outbox is safe for concurrent use and
// must not be copied. Several of them may share one Records if their Kinds differ.
type Outbox struct {
	// Receivers get the events. Without any, events are dropped.
	Receivers []Receiver
	// Records keeps the events that are not delivered yet. If nil, they are in memory
	// only and are lost with the process.
	Records Records
	// Kind is the kind of the records. If empty, it is "outbox".
	Kind string
	// Queue is how many events may wait for one receiver. If zero, it is 10,000.
	Queue int
	// AtOnce is how many deliveries to one receiver may be under way at once. If zero,
	// it is 4. After a failure it is 1 until the receiver answers.
	AtOnce int
	// FirstPause is the pause after a first failure. Each further pause is twice as
	// long, up to LongestPause. Up to a quarter is added by chance. If zero, they are
	// 1 second and 15 minutes.
	FirstPause, LongestPause time.Duration
	// GiveUp is the age from which an event is given up when a try fails, but not
	// before its fourth try. If zero, it is 24 hours.
	GiveUp time.Duration
	// Timeout is how long a try may take until its context ends. If zero, it is 1
	// minute.
	Timeout time.Duration
	// Recent is how many deliveries of each receiver Deliveries returns. If zero, it is
	// 100.
	Recent int
	// GaveUp is called for each event that will not be delivered: with the last try
	// of an event that is given up, and with [ErrQueueFull] as Err, before Send
	// returns, for an event that had to make room. No lock is held. If nil, such
	// events are only logged and counted.
	GaveUp func(Delivery)
	// Logger gets the failures. If nil, nothing is logged.
	Logger *slog.Logger

	mu     sync.Mutex // held while records are loaded
	box    *outbox
	closed bool
}

// Errors of an [Outbox].
var (
	// ErrClosed reports an Outbox that was shut down.
	ErrClosed = errors.New("webhook: the outbox was shut down")
	// ErrNoReceiver reports a name that no receiver has.
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

// start fills in the defaults at first use, loads the events that a former process
// left and begins to deliver them. If it fails, the next use tries again.
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
		pauses: backoff.Backoff{First: or(o.FirstPause, time.Second), Longest: or(o.LongestPause, 15*time.Minute), Jitter: 0.25},
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

// or returns v if it is set, and otherwise the default.
func or[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// open makes the queues, with the events that a former process left.
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

// Start loads the events that a former process left and begins to deliver them. The
// first use of another method does the same. An error wraps [ErrConfig], or is one of
// Records.
func (o *Outbox) Start(context.Context) error {
	_, err := o.start()
	return err
}

// Send implements [Sink]. It returns when the event is on disk for every receiver
// that selects it, and does not wait for deliveries. An event that is queued already
// is not queued again. An event without an ID gets one.
//
// After Shutdown events are still kept for the next Outbox on these Records. Without
// Records the error is [ErrClosed] then.
func (o *Outbox) Send(ctx context.Context, ev Event) error { return o.SendAll(ctx, []Event{ev}) }

// SendAll implements [Batcher]: it does what Send does, and waits for the disk once.
func (o *Outbox) SendAll(ctx context.Context, events []Event) error {
	b, err := o.start()
	if err != nil {
		return err
	}
	if !b.keeper.durable() && b.life.isClosed() {
		return ErrClosed
	}
	all, err := b.claim(ctx, events)
	if err != nil {
		return err
	}
	err = b.keep(ctx, all)
	kickAll(all) // also after an error: what was taken is kept
	return err
}

// Shutdown lets no more deliveries begin and waits for those under way. If ctx ends
// before, they are cut and the error is the cause of its end. Events that are not
// delivered stay in Records.
func (o *Outbox) Shutdown(ctx context.Context) error {
	o.mu.Lock()
	o.closed = true
	b := o.box
	o.mu.Unlock()
	if b == nil {
		return nil // it was never used
	}
	err := b.life.shutdown(ctx)
	for _, q := range b.queues {
		q.stop()
	}
	return err
}

// queue returns the queue of a receiver, or [ErrNoReceiver].
func (b *outbox) queue(name string) (*queue, error) {
	for _, q := range b.queues {
		if q.r.Name == name {
			return q, nil
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrNoReceiver, name)
}
