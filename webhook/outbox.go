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
	// after a restart. It may be shown.
	Name string
	// Sink gets the events.
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

// syncer is the optional ability of a Records to bring records to the disk.
type syncer interface {
	SyncRecords(ctx context.Context, kind string) error
}

// Outbox is a [Sink] that delivers events at least once to each of its receivers.
// Send returns when the event is on disk; delivering is another matter: each
// receiver has a queue of its own, so that one that is slow, hangs or is down
// delays no other and no copy. What fails is tried again with growing pauses and
// the same event ID. A receiver that is in trouble is left alone as a whole and
// gets the rest when it answers again.
//
// A queue is bounded: the oldest event of a receiver makes room for a new one,
// which is logged and counted. Events are kept on disk; what waits costs some 200
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
	// FirstPause is the pause after a first failure, LongestPause the longest;
	// each is twice the one before, with some chance in it. If zero, 1 second and
	// 15 minutes.
	FirstPause, LongestPause time.Duration
	// GiveUp is how old an event is when it is given up. If zero, 24 hours.
	GiveUp time.Duration
	// Timeout bounds one try, whatever the sink does. If zero, 1 minute.
	Timeout time.Duration
	// Recent is how many deliveries of each receiver are remembered. If zero, 100.
	Recent int
	// GaveUp is told of an event that is given up or had to make room; the
	// Delivery is its last, as far as known. If nil, only the log is.
	GaveUp func(Delivery)
	// Logger gets what goes wrong. If nil, nothing is logged.
	Logger *slog.Logger

	once sync.Once
	box  *outbox
	err  error
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
)

// outbox is an Outbox at work.
type outbox struct {
	cfg    *Outbox
	kind   string
	limits limits
	log    *slog.Logger
	queues []*queue

	ctx    context.Context // ends with Shutdown's ctx
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// limits are the numbers of an Outbox, resolved.
type limits struct {
	queue, atOnce, recent                     int
	firstPause, longestPause, giveUp, timeout time.Duration
}

// start resolves the fields at first use, and loads what a former process left.
func (o *Outbox) start() (*outbox, error) {
	o.once.Do(func() {
		b := &outbox{cfg: o, kind: o.Kind, log: o.Logger}
		if b.kind == "" {
			b.kind = "outbox"
		}
		if b.log == nil {
			b.log = slog.New(slog.DiscardHandler)
		}
		b.limits = limits{
			queue: or(o.Queue, 10000), atOnce: or(o.AtOnce, 4), recent: or(o.Recent, 100),
			firstPause: or(o.FirstPause, time.Second), longestPause: or(o.LongestPause, 15*time.Minute),
			giveUp: or(o.GiveUp, 24*time.Hour), timeout: or(o.Timeout, time.Minute),
		}
		b.ctx, b.cancel = context.WithCancel(context.Background())
		o.box, o.err = b, b.open()
	})
	return o.box, o.err
}

func or[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// open makes the queues.
func (b *outbox) open() error {
	byName := map[string]*queue{}
	for _, r := range b.cfg.Receivers {
		if r.Name == "" || r.Sink == nil || byName[r.Name] != nil {
			return fmt.Errorf("%w: receiver %q needs a sink and a name of its own", ErrConfig, r.Name)
		}
		if err := r.Scope.Check(); err != nil {
			return fmt.Errorf("%w: receiver %q: %w", ErrConfig, r.Name, err)
		}
		q := newQueue(b, r)
		byName[r.Name] = q
		b.queues = append(b.queues, q)
	}
	if b.cfg.Records == nil {
		return nil
	}
	return b.load(byName)
}

// Start loads what a former process left and begins to deliver it. The first use
// does the same. An error wraps [ErrConfig], or is that of Records.
func (o *Outbox) Start(context.Context) error {
	b, err := o.start()
	if err != nil {
		return err
	}
	for _, q := range b.queues {
		q.kick()
	}
	return nil
}

// Send implements [Sink]. It returns when the event is on disk for every receiver
// that is to get it, and does not wait for any of them.
func (o *Outbox) Send(ctx context.Context, ev Event) error {
	b, err := o.start()
	if err != nil {
		return err
	}
	var took []*queue
	for _, q := range b.queues {
		f := Filter{Scope: q.r.Scope, Actions: q.r.Actions}
		if !f.Selects(ev) {
			continue
		}
		if err := q.take(ctx, ev); err != nil {
			return fmt.Errorf("webhook: %s: the event cannot be kept: %w", q.r.Name, err)
		}
		took = append(took, q)
	}
	if s, ok := b.cfg.Records.(syncer); ok && len(took) > 0 {
		if err := s.SyncRecords(ctx, b.kind); err != nil {
			return fmt.Errorf("webhook: the event cannot be kept: %w", err)
		}
	}
	for _, q := range took {
		q.kick()
	}
	return nil
}

// spawn runs f on a goroutine that Shutdown waits for.
func (b *outbox) spawn(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.wg.Go(f)
	return true
}

// Shutdown begins no more deliveries and waits for those under way, which are cut
// when ctx ends. What is not delivered stays in Records.
func (o *Outbox) Shutdown(ctx context.Context) error {
	b, err := o.start()
	if err != nil {
		return nil // it never worked
	}
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	defer b.cancel()
	stop := context.AfterFunc(ctx, b.cancel)
	defer stop()
	b.wg.Wait()
	for _, q := range b.queues {
		q.stop()
	}
	return context.Cause(ctx)
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
