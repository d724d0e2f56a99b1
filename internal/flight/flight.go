// Package flight downloads blobs: one download for each blob and source,
// however many wait for it.
//
// A flight belongs to no request. Its state is a spool and the set of byte
// ranges that are present in it. The front is filled in order by one
// connection and hashed as it goes; a reader far ahead of the front gets a
// segment of its own, which the front later skips. No byte is ever written
// twice, so what was hashed is what was stored. Readers read what is present
// through handles of their own and sleep until what they want has come.
//
//	front  ──────────────▶ ┊  hole  ┊ segment ───▶ ┊   hole            ┊
//	0                                                                 size
//
// A reader of the whole blob does not get its last 64 KiB before the digest
// has matched; so nobody ever sees a clean end of wrong bytes.
package flight

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

const (
	// HoldBack is how many bytes at the end of a blob wait for its digest. A
	// blob that is not longer is verified before its header.
	HoldBack = 64 << 10

	segmentSize    = 8 << 20
	segmentAlign   = 64 << 10
	maxSegments    = 4
	checkpointSize = 8 << 20
)

var (
	// ErrDigest reports that what came does not hash to the digest. Nothing of
	// it is kept.
	ErrDigest = errors.New("flight: the content does not match its digest")
	// ErrBusy reports that there was no free place among the downloads in time.
	ErrBusy = errors.New("flight: too many downloads")
	// ErrAbandoned reports a flight that was ended because nobody waits for it.
	ErrAbandoned = errors.New("flight: nobody waits for it")
	// ErrClosed reports that the group was closed.
	ErrClosed = errors.New("flight: closed")
)

// errBroken reports that the spool cannot be used; readers go on alone.
var errBroken = errors.New("flight: the store cannot keep it")

// Key says what is downloaded. Flights are never shared between sources.
type Key struct {
	Source upstream.Source
	Digest digest.Digest
}

// Request asks for a flight.
type Request struct {
	Key
	// Size is what a verified manifest says; -1: unknown.
	Size int64
	// Open gives the repository. It is called for each connection and
	// checkpoint; an error ends the flight. ctx is the flight's own.
	Open func(ctx context.Context) (upstream.Repository, error)
	// Spool makes the place where the bytes go. An error is no trouble of the
	// readers, who then download alone.
	Spool func(ctx context.Context) (store.Spool, error)
	// Job says that a copy asks, not a client.
	Job bool
}

// Group is the flights of one cache. All fields must be set before first use.
type Group struct {
	Downloads, PerHost int           // how many at once
	Orphan             int64         // bytes that nobody waits for
	Idle, Answer, Busy time.Duration // see cache.Limits
	Logger             *slog.Logger
	// StoreFailed is told when a spool cannot be made, written or committed.
	StoreFailed func(Key, error)

	buffers sync.Pool // of *[]byte, batchSize long

	mu      sync.Mutex
	flights map[Key]*Flight
	closed  bool
	slots   slots
	wg      sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelCauseFunc
}

// Flight is one download.
type Flight struct {
	group *Group
	req   Request

	ctx      context.Context
	cancel   context.CancelCauseFunc
	promoted chan struct{} // closed when a client joined
	placed   chan struct{} // closed when it has a place among the downloads
	opened   chan struct{} // closed when spool is set or there will be none
	live     chan struct{} // closed at the first good answer, or at the end
	verdict  chan struct{} // closed when the digest matched, or at the end
	done     chan struct{} // closed at the end: committed, failed or broken

	// The front's own, used by its goroutine only.
	hash       hash.Hash
	whole      bool  // ask for everything: ranges do not work here
	checked    int64 // front of the last checkpoint
	checkpoint sync.WaitGroup
	segmentsWG sync.WaitGroup

	mu       sync.Mutex
	spool    store.Spool
	size     int64 // -1: unknown
	have     ranges
	front    int64 // all before it is present and hashed
	isLive   bool
	verified bool
	broken   bool
	err      error // of the download; nil while it runs or when it is verified
	stored   error // of the commit
	clients  int
	jobs     int
	segments []*segment
	noRange  bool // the upstream ignores ranges
	ending   bool // nobody may join any more

	segmentFailures int
	rate            rate
	waiters         map[*waiter]struct{}
	vouching        bool           // a checkpoint is being written
	holders         int            // who may still open the spool: run and handles
	state           store.Progress // of a broken flight: where its readers go on
}

// waiter sleeps until off is released.
type waiter struct {
	off   int64
	whole bool
	ready chan struct{}
}

// Join returns a handle on the flight for req, and begins it if there is none.
// It does no I/O and calls nobody; it waits for a flight that is just ending,
// or for ctx.
func (g *Group) Join(ctx context.Context, req Request) (*Handle, error) {
	for {
		h, ending, err := g.tryJoin(req)
		if ending == nil {
			return h, err
		}
		select {
		case <-ending:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (g *Group) tryJoin(req Request) (h *Handle, ending <-chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, nil, ErrClosed
	}
	if g.flights == nil {
		g.flights = map[Key]*Flight{}
		g.ctx, g.cancel = context.WithCancelCause(context.Background())
		g.slots = slots{total: g.Downloads, perHost: g.PerHost}
	}
	f := g.flights[req.Key]
	if f == nil {
		f = g.begin(req)
	}
	if h = f.join(req.Job); h == nil {
		return nil, f.done, nil
	}
	return h, nil, nil
}

// begin makes a flight. g.mu is held.
func (g *Group) begin(req Request) *Flight {
	f := &Flight{
		group: g, req: req, size: req.Size,
		promoted: make(chan struct{}), placed: make(chan struct{}), opened: make(chan struct{}), live: make(chan struct{}),
		verdict: make(chan struct{}), done: make(chan struct{}),
		hash:    req.Digest.Algorithm().Hash(),
		waiters: map[*waiter]struct{}{},
		holders: 1,
	}
	f.ctx, f.cancel = context.WithCancelCause(g.ctx)
	g.flights[req.Key] = f
	g.wg.Go(f.run)
	return f
}

// Peek tells whether a flight for k is under way, how far its front is, and
// its size, -1 if that is unknown.
func (g *Group) Peek(k Key) (front, size int64, ok bool) {
	g.mu.Lock()
	f := g.flights[k]
	g.mu.Unlock()
	if f == nil {
		return 0, 0, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.front, f.size, true
}

// Len returns how many flights there are.
func (g *Group) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.flights)
}

// Close ends all flights, keeps what they have for a later process, and waits
// for them or ctx.
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	if g.cancel != nil {
		g.cancel(ErrClosed)
	}
	g.mu.Unlock()
	done := make(chan struct{})
	go func() { g.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run is the life of a flight.
func (f *Flight) run() {
	err := f.download()
	if err != nil {
		f.cancel(err)
	}
	f.segmentsStop()
	f.checkpoint.Wait()
	f.settle(err)
	if err == nil {
		f.commit()
	} else {
		f.keep(err)
	}
	f.group.mu.Lock()
	delete(f.group.flights, f.req.Key)
	f.group.mu.Unlock()
	f.cancel(ErrAbandoned)
	close(f.done)
	f.drop()
}

// settle makes the verdict known and wakes everyone.
func (f *Flight) settle(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		f.verified = true
	case errors.Is(err, errBroken):
		f.broken, f.ending = true, true
		f.state, _ = f.progressLocked()
	default:
		f.err, f.ending = err, true
	}
	f.makeLive()
	f.closeOpened()
	close(f.verdict)
	f.wake()
}

// makeLive says that there is an answer. f.mu is held.
func (f *Flight) makeLive() {
	if !f.isLive {
		f.isLive = true
		close(f.live)
	}
}

// commit makes the bytes the store's. The readers do not wait for it.
func (f *Flight) commit() {
	got := store.Info{}
	got.Digest, got.Size = f.req.Digest, f.size
	if err := f.spool.Commit(f.ctx, got); err != nil {
		f.stored = err
		f.failed(err)
	}
}

func (f *Flight) failed(err error) {
	if f.group.StoreFailed != nil {
		f.group.StoreFailed(f.req.Key, err)
	}
}

// keep leaves what came for a later flight, unless it is known to be wrong or
// the rule is gone. Readers of a broken flight still need the spool.
func (f *Flight) keep(err error) {
	var gone *goneError
	f.mu.Lock()
	spool, front := f.spool, f.front
	f.mu.Unlock()
	if spool == nil || errors.Is(err, errBroken) {
		return
	}
	c, ok := spool.(store.Checkpointer)
	if !ok || front == 0 || errors.Is(err, ErrDigest) || errors.As(err, &gone) {
		_ = spool.Close()
		return
	}
	if f.checked < front {
		if p, err := f.progress(); err == nil {
			_ = c.Checkpoint(p)
		}
	}
	_ = c.Keep() // what cannot be kept is fetched again
}

// progress is what a checkpoint vouches for. The front does not move meanwhile.
func (f *Flight) progress() (store.Progress, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.progressLocked()
}

func (f *Flight) progressLocked() (store.Progress, error) {
	m, ok := f.hash.(encoding.BinaryMarshaler)
	if !ok {
		return store.Progress{}, fmt.Errorf("flight: the state of %s cannot be saved", f.req.Digest.Algorithm())
	}
	state, err := m.MarshalBinary()
	return store.Progress{Front: f.front, Size: f.size, Hash: state}, err
}

// closeOpened says that there is a spool or never will be. f.mu is held.
func (f *Flight) closeOpened() {
	select {
	case <-f.opened:
	default:
		close(f.opened)
	}
}

// drop gives up one holder; the last one closes the spool.
func (f *Flight) drop() {
	f.mu.Lock()
	f.holders--
	spool := f.spool
	last := f.holders == 0
	f.mu.Unlock()
	if last && spool != nil {
		_ = spool.Close()
	}
}

// wake wakes those whose bytes are there, or all at the end. f.mu is held.
func (f *Flight) wake() {
	over := f.verified || f.broken || f.err != nil
	for w := range f.waiters {
		if over || f.released(w.off, w.whole) > 0 {
			delete(f.waiters, w)
			close(w.ready)
		}
	}
}

// released returns how many bytes from off on may be read. f.mu is held.
func (f *Flight) released(off int64, whole bool) int64 {
	if !f.isLive {
		return 0
	}
	end := f.have.end(off)
	if whole && !f.verified {
		limit := f.front
		if f.size >= 0 {
			limit = f.size
		}
		end = min(end, limit-HoldBack)
	}
	return max(0, end-off)
}

// publish makes [off, off+n) readable.
func (f *Flight) publish(off, n int64, front bool) {
	f.mu.Lock()
	f.have = f.have.add(off, off+n)
	if front {
		f.front = off + n
		f.rate.add(n)
	}
	f.wake()
	f.mu.Unlock()
}

// rate measures bytes per second over about a second.
type rate struct {
	since  time.Time
	bytes  int64
	second float64 // bytes per second; 0: not known yet
}

func (r *rate) add(n int64) {
	now := time.Now()
	if r.since.IsZero() {
		r.since = now
		return
	}
	r.bytes += n
	if d := now.Sub(r.since); d >= 500*time.Millisecond {
		r.second = float64(r.bytes) / d.Seconds()
		r.since, r.bytes = now, 0
	}
}
