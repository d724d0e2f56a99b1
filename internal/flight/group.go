package flight

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/internal/share"
)

// Group is the flights of one cache. All fields must be set before first use. It
// is safe for concurrent use.
type Group struct {
	Downloads, PerHost int           // how many at once, in all and at one host
	Orphan             int64         // bytes that are still fetched when no reader is left; none if negative
	Idle, Answer, Busy time.Duration // see cache.Limits
	Least              int64         // bytes per second of each connection; 0 means any number
	Largest            int64         // bytes of a blob; 0 means any number
	Segments           int           // connections at once for one blob that is large; one if 0
	// Go runs a flight on a goroutine of its own. If nil, that is a new one.
	Go func(f func())
	// StoreFailed is called when a spool cannot be made, written, read or committed.
	// If nil, it is not called.
	StoreFailed func(Key, error)

	buffers  sync.Pool    // of *[]byte, batchSize long
	segments atomic.Int64 // pieces that further connections were asked for
	joined   atomic.Int64 // clients that joined a flight
	early    earlyTurn

	mu      sync.Mutex
	flights map[Key]*flight
	closed  bool
	slots   share.Pool
	shy     *lru.Cache[share.Claim, time.Time] // sources that are asked for no further pieces, until then
	wg      sync.WaitGroup
	ctx     context.Context // of the downloads
	cancel  context.CancelCauseFunc
	commits context.Context // outlives ctx until Close has waited long enough
	give    context.CancelCauseFunc
}

// Join returns a handle on the flight for req, and begins it if there is none.
// It does no I/O and calls no function of req. It waits for a flight that is just
// ending, or for ctx. The error is [ErrClosed] after Close.
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
		g.flights = map[Key]*flight{}
		g.ctx, g.cancel = context.WithCancelCause(context.Background())
		g.commits, g.give = context.WithCancelCause(context.Background())
		g.slots.Size, g.slots.PerHost = g.Downloads, g.PerHost
		g.shy = lru.New[share.Claim, time.Time](maxShy)
	}
	f := g.flights[req.Key]
	begin := f == nil
	if begin {
		f = newFlight(g, req, func() { g.forget(req.Key) })
		g.flights[req.Key] = f
	}
	if h = f.join(req.Job); h == nil {
		return nil, f.spool.freed, nil
	}
	h.began = begin
	if !begin && !req.Job && !req.Peer {
		g.joined.Add(1)
	}
	if begin { // after the first reader has joined: a flight can be over at once
		g.begin(f)
	}
	return h, nil, nil
}

// begin runs a flight on a goroutine that Close waits for.
func (g *Group) begin(f *flight) {
	if g.Go == nil {
		g.wg.Go(f.run)
		return
	}
	g.wg.Add(1)
	g.Go(func() {
		defer g.wg.Done()
		f.run()
	})
}

// Peek tells whether there is a flight for k that can be joined, how far its front is,
// and its size, -1 if that is unknown.
func (g *Group) Peek(k Key) (front, size int64, ok bool) {
	g.mu.Lock()
	f := g.flights[k]
	g.mu.Unlock()
	if f == nil {
		return 0, 0, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending {
		return 0, 0, false
	}
	return f.front, f.size, true
}

// Known returns the size of a blob that the upstream of a flight for k gives; false
// if there is no such flight, or no answer yet, or no size in it.
func (g *Group) Known(k Key) (size int64, ok bool) {
	g.mu.Lock()
	f := g.flights[k]
	g.mu.Unlock()
	if f == nil {
		return -1, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size, f.answered && f.size >= 0
}

// Arrival is how far a flight has come.
type Arrival struct {
	Front, Size int64 // Size is -1 if it is unknown
	Verified    bool  // all of it is here, with its digest
}

// Coming tells whether a flight for k is being downloaded or committed, or begins at once,
// and how far it has come. One that waits for its slot is not coming, and one that has failed
// is not.
func (g *Group) Coming(k Key) (a Arrival, ok bool) {
	g.mu.Lock()
	f := g.flights[k]
	g.mu.Unlock()
	if f == nil {
		return Arrival{Size: -1}, false
	}
	f.mu.Lock()
	a, ok = Arrival{f.front, f.size, f.verified}, !f.closed()
	begun := f.begun
	f.mu.Unlock()
	return a, ok && (begun || g.Room(f.claim()))
}

// Pieces returns how many pieces of blobs further connections were asked for.
func (g *Group) Pieces() int64 { return g.segments.Load() }

// Room reports whether the download of a client would begin at once.
func (g *Group) Room(c share.Claim) bool {
	g.mu.Lock()
	begun := g.flights != nil
	g.mu.Unlock()
	return !begun || g.slots.Room(c)
}

// Len returns how many flights there are.
func (g *Group) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.flights)
}

// Joined returns how many clients joined a flight that had begun before they came.
func (g *Group) Joined() int64 { return g.joined.Load() }

// Readers returns how many clients and copies have a handle on a flight now.
func (g *Group) Readers() (n int) {
	g.mu.Lock()
	flights := slices.Collect(maps.Values(g.flights))
	g.mu.Unlock()
	for _, f := range flights {
		f.mu.Lock()
		n += f.clients + f.jobs
		f.mu.Unlock()
	}
	return n
}

// Slots returns how the slots are used.
func (g *Group) Slots() share.Use { return g.slots.Use() }

// Close ends all downloads, keeps what they have for a later process, and waits
// for them or ctx. What has just been verified is committed first.
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	cancel, give := g.cancel, g.give
	g.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel(ErrClosed)
	defer give(ErrClosed)
	done := make(chan struct{})
	go func() { g.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// forget takes the flight for k out of the group.
func (g *Group) forget(k Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.flights, k)
}
