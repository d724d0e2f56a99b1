// Package ledger knows which copies are not finished: what is to be copied, in which
// state each copy job is, when it is tried next, and the record from which the next
// process goes on. It does not copy; a [Worker] does.
//
//	         Add
//	OnDemand ────▶ Watching ───Asked, Add────┐
//	         Add                             ▼            Do: nil
//	otherwise ──────────────────────────▶ Queued ──▶ Running ───────────────▶ gone
//	                                       ▲ ▲ ▲      │ │ │
//	Waiting ──Completed (an image of it)───┘ │ │      │ │ │  ErrWaiting
//	                                         │ │      │ │ └────────────────▶ Waiting
//	Paused ───Next, Retry────────────────────┘ │      │ │  an error
//	                                           │      │ └──────────────────▶ Paused, Parked, gone
//	Parked ───Retry, Add after a while─────────┘      │  ErrHandedOver
//	                                                  └────────────────────▶ Submitted
//	Submitted ───the Worker finds it done ──▶ gone; lost, or after handOver ──▶ Queued
//	          ───done, and its events wait elsewhere ──▶ Submitted, as Sending
//
// Waiting and Watching jobs are given up after Config.Wait, Parked ones after
// parkedLongest, and so are Sending ones, which are the first to make room. Forget removes
// a job in every state, and so does a lack of room where another rule, or a more recent
// request, has the better claim to it. A process that
// starts enters the jobs of a former one in the state that their records say; whether
// the rule of a job is still there, its Worker finds out.
//
// # Laws
//
//   - Ledger.mu guards everything. No code of others runs under it, the methods of an
//     error included: logs and callbacks are noted and run by Ledger.unlock.
//   - A state changes in Ledger.to only, and time passes in Ledger.loop only.
//   - Ledger.changes numbers what happens to manifests, so that a caller that looked
//     without the lock finds out whether it must look again.
//   - A record is written by one goroutine, in order: what is written is what is true
//     when it is written. While a Worker holds the record of its job (see Run.Hold), only
//     the Worker writes it.
package ledger

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/recordset"
)

// State is where a copy job is.
type State string

// The states.
const (
	Queued    State = "queued"
	Running   State = "running"
	Submitted State = "submitted" // it was handed over: somebody else copies
	Waiting   State = "waiting"   // an index that waits for one of its images
	Watching  State = "watching"  // an image of an index that waits for a client to ask for a layer
	Paused    State = "paused"    // it failed and is tried again
	Parked    State = "parked"    // it failed too often
)

var (
	// ErrWaiting is what a Worker returns for an index that waits for an image.
	ErrWaiting = errors.New("cache: the index waits for one of its images")
	// ErrHandedOver is what a Worker returns for a job that it gave to somebody else.
	ErrHandedOver = errors.New("cache: somebody else does the job")
	// ErrForgotten reports a copy job that was given up: what it copies was deleted, or its
	// repository has another source now.
	ErrForgotten = errors.New("cache: the copy was given up")
	// ErrTooMany reports that no more copy jobs can be kept.
	ErrTooMany = errors.New("cache: too many copy jobs are known")
)

// Worker copies. The ledger calls it with no lock held, on goroutines of its own.
type Worker interface {
	// Do does a job: nil when it is done, with its tags moved and its events sent,
	// [ErrWaiting], [ErrHandedOver], or why it failed.
	Do(ctx context.Context, r *Run) error
	// Look finds out what became of a job that was handed over, and sees to its events. An
	// error means that it cannot tell now.
	Look(ctx context.Context, r *Run) (Fate, error)
	// Judge says what an error of Do means, after that many failures in a row.
	Judge(job Job, failures int, err error) Verdict
}

// Fate is what became of a job that was handed over.
type Fate int

// The fates.
const (
	Pending  Fate = iota // nobody has done it yet
	Stuck                // likewise, and its holder does not go on by itself
	Finished             // it is done
	Lost                 // nobody has it any more
	Sending              // it is done, and its holder has its events, which wait for their receivers
	Deleted              // what it copies was deleted
)

// Verdict is what a failure means for a copy job.
type Verdict struct {
	GiveUp bool          // it can never be done
	Own    bool          // it is the copy's own failure, and counts as an attempt
	Park   bool          // it is not tried again by itself
	Full   bool          // the store has no room: of such failures the first log line says it all
	Pause  time.Duration // before the next try, and up to a quarter more
}

// Config says how a Ledger works. Worker, Log and the numbers must be set.
type Config struct {
	Worker  Worker
	Records recordset.Records // If nil, copy jobs are lost with the process.
	// Write makes changes of records as one. If nil, they are made one by one.
	Write func(ctx context.Context, changes []recordset.Change) error
	// NotFound is the error of Records for a record that is not there.
	NotFound error
	AtOnce   int           // jobs that run at once
	Most     int           // jobs that are known at once
	Memory   int64         // bytes that their manifests take
	Wait     time.Duration // how long a job may be Waiting or Watching
	// Go runs a function on a goroutine of its own. If nil, that is a new one.
	Go func(f func())
	// Alone reports whether a client that asked for the config of an image read no other
	// image of the same index in the time around that. It is called with no lock held,
	// onlyChildTime after the config was asked for.
	Alone func(ctx context.Context, job Job, asked time.Time) bool
	// Parked is called for each job that is parked, with no lock held. If nil, nothing
	// is.
	Parked func(Copy)
	// Tracked says that Look finds out who has a job. Then a job is handed over again when it
	// is Lost or more is asked of it, and otherwise when it is not done after a while.
	Tracked bool
	// Closed is the cause with which the contexts of Workers end at Close.
	Closed error
	Log    *slog.Logger
}

// Ledger keeps the copy jobs that are not finished. It is safe for concurrent use.
type Ledger struct {
	cfg      Config
	records  *recordset.Set[Job] // nil if none are kept
	ctx      context.Context
	cancel   context.CancelCauseFunc
	workers  sync.WaitGroup
	wake     chan struct{}
	loaded   chan struct{} // closed when the records of a former process are read
	unread   error         // why they cannot be listed, once loaded is closed
	watching atomic.Int64  // jobs, so that a blob that is here costs no lock
	failed   atomic.Int64
	dropped  atomic.Int64

	mu      sync.Mutex
	closed  bool
	entries map[Key]*entry
	repos   map[string]map[Key]*entry // the same by repository
	rules   map[string]*held          // what each rule has of them
	bytes   int64                     // that their manifests take
	turns   turns
	timed   timed
	changes uint64
	changed *lru.Cache[Key, uint64] // the last change of each manifest
	notes   []func()                // calls that wait until mu is free
	idle    chan struct{}           // closed when nothing is queued or runs; nil if nobody waits for it
	full    bool                    // the log has said it once
	crowded bool                    // the log has said it once
	writer
}

// changedMost is how many manifests changed remembers.
const changedMost = 64 << 10

// entry is a copy job and what becomes of it. Ledger.mu guards it.
type entry struct {
	job      Job
	man      *oci.Content
	state    State
	due      time.Time              // when the loop acts on it; zero if never
	index    int                    // in timed; -1 if it is not there
	serial   uint64                 // its place in the order of the queue
	began    uint64                 // Ledger.changes when it began to run
	handed   time.Time              // when it was handed over
	looked   time.Duration          // the pause before the last look
	stuck    time.Time              // since when it is Stuck; zero if it is not
	sending  bool                   // it is Submitted and Sending, as far as is known
	silent   time.Time              // of a job that is Sending, since when nobody says so; zero if somebody does
	resumed  bool                   // a former process had it, and it has not run since
	unasked  map[digest.Digest]bool // of a Watching job, the layers that no client has asked for
	expires  time.Time              // of a Watching job, when it is given up
	config   time.Time              // of a Watching job, when a client asked for its config; zero if none did
	failures int                    // consecutive failures, including those of the upstream or the store
	err      error                  // the last failure
	attempt  *attempt               // the one that Wait waits for
	values   context.Context        // see Run.Values; nil once the job has run
	giveUp   func(error)            // tells its last run that it is given up; nil if it has not run
}

// attempt is what Wait waits for: the end of a job, or a failure after which it is
// tried again.
type attempt struct {
	ended chan struct{}
	err   error // why it failed, once ended is closed
}

func newAttempt() *attempt { return &attempt{ended: make(chan struct{})} }

func (a *attempt) end(err error) {
	a.err = err
	close(a.ended)
}

// live reports whether something still becomes of the job by itself.
func (e *entry) live() bool { return e.state != Parked && e.state != Watching && !e.sending }

// New returns a ledger that does nothing before Start.
func New(cfg Config) *Ledger {
	l := &Ledger{
		cfg: cfg, wake: make(chan struct{}, 1), loaded: make(chan struct{}),
		entries: map[Key]*entry{}, repos: map[string]map[Key]*entry{}, rules: map[string]*held{},
		changed: lru.New[Key, uint64](changedMost),
		turns:   turns{queues: map[string][]*entry{}, running: map[string]int{}},
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	if cfg.Records != nil {
		l.records = &recordset.Set[Job]{Records: cfg.Records, Kind: recordKind, NotFound: cfg.NotFound,
			Check: func(_ string, j Job) error { return j.Digest.Validate() }}
	}
	return l
}

// Start begins: the ledger goes on with what its records hold. It is called once.
func (l *Ledger) Start() {
	l.mu.Lock()
	defer l.unlock()
	l.spawn(l.loop)
}

// Close ends what runs, which the next process takes up, and waits for it. The records
// stay as they are.
func (l *Ledger) Close() {
	l.mu.Lock()
	l.closed = true // nothing begins after this
	l.cancel(l.cfg.Closed)
	l.unlock()
	l.workers.Wait()
}

// spawn runs f on a goroutine that Close waits for. It does nothing after Close has
// begun. l.mu is held.
func (l *Ledger) spawn(f func()) bool {
	if l.closed {
		return false
	}
	if l.cfg.Go == nil {
		l.workers.Go(f)
		return true
	}
	l.workers.Add(1)
	l.cfg.Go(func() {
		defer l.workers.Done()
		f()
	})
	return true
}

// unlock frees the lock and makes the calls that were noted meanwhile: they may call
// the ledger again.
func (l *Ledger) unlock() {
	notes := l.notes
	l.notes = nil
	l.mu.Unlock()
	for _, f := range notes {
		f()
	}
}

// log notes a line to be written when the lock is free. l.mu is held.
func (l *Ledger) log(level slog.Level, text string, args ...any) {
	l.notes = append(l.notes, func() { l.cfg.Log.Log(context.WithoutCancel(l.ctx), level, text, args...) })
}

// to changes the state of an entry, which happens nowhere else. due is when the loop
// acts on it; zero means never. l.mu is held.
func (l *Ledger) to(e *entry, s State, due time.Time) {
	switch {
	case e.state == Watching && s != Watching:
		l.watching.Add(-1)
	case e.state != Watching && s == Watching:
		l.watching.Add(1)
	}
	if e.index >= 0 {
		heap.Remove(&l.timed, e.index)
	}
	e.state, e.due = s, due
	e.sending = e.sending && s == Submitted
	if !due.IsZero() {
		heap.Push(&l.timed, e)
	}
	l.kick()
}

// kick wakes the loop.
func (l *Ledger) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// timed orders entries by when the loop acts on them.
type timed []*entry

func (t timed) Len() int           { return len(t) }
func (t timed) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t timed) Swap(i, j int)      { t[i], t[j] = t[j], t[i]; t[i].index, t[j].index = i, j }

// Push adds an entry, for package heap.
func (t *timed) Push(x any) { e := x.(*entry); e.index = len(*t); *t = append(*t, e) }

// Pop removes the last entry, for package heap.
func (t *timed) Pop() any {
	e := (*t)[len(*t)-1]
	(*t)[len(*t)-1] = nil
	*t, e.index = (*t)[:len(*t)-1], -1
	return e
}
