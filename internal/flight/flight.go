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
// A large blob gets further connections, called lanes, if they bring more together than the
// front's alone (ladder). They bring pieces ahead of the front, which hashes them where it
// meets them. A connection that is silent for a while gets a rival for the same bytes.
//
//	front  ──────────────▶ ┊  hole  ┊ segment ───▶ ┊   hole            ┊
//	0                                                                 size
//
// What has come is vouched for by checkpoints, from which the next process goes on if this one
// is killed: every 8 MiB, and, while the download is not fast, as often between as the disk
// of the group may sync.
//
// A reader of the whole blob does not get its last 64 KiB before the digest
// has matched; so no reader ever sees a clean end of wrong bytes. If the store
// cannot keep the blob, the flight is broken: each of its readers then goes on
// alone, over a connection of its own, under the same rule.
//
// A download holds one of the group's slots, and so does each reader that goes on
// alone. Segments for readers share the slot of their flight. Each lane and each rival has
// a spare slot, which it gives back when a claim waits for it.
package flight

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/share"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

const (
	// HoldBack is how many bytes at the end of a blob wait for its digest. A
	// blob that is not longer is verified before its header.
	HoldBack = 64 << 10

	segmentSize  = 8 << 20
	segmentAlign = 64 << 10
	maxSegments  = 4

	maxSegmentFailures = 3 // in a row

	// frontWait is how long the front waits for a segment that brings nothing.
	frontWait = 2 * time.Second

	// orphanRate is how many bytes per second a connection must bring when no
	// reader is left, or its slot goes to another download.
	orphanRate = 64 << 10
)

// Key says what is downloaded. Flights are never shared between sources.
type Key struct {
	Source upstream.Source
	Digest digest.Digest
}

// Request asks for a flight.
type Request struct {
	Key
	// Size is what a verified manifest says, -1 if none does.
	Size int64
	// Doubt says that manifest and upstream disagree about the size: nothing is
	// given to readers before the digest has matched.
	Doubt bool
	// Disputed is called when the content has another size than was announced,
	// before any reader learns it. If nil, it is not called.
	Disputed func()
	// Open gives the repository. It is called for each connection and
	// checkpoint. An [*upstream.Error] is a failure like one of the upstream;
	// any other error ends the flight. ctx is the flight's own.
	Open func(ctx context.Context) (upstream.Repository, error)
	// Spool makes the spool that the bytes are written to. If it fails, the
	// readers download alone, unless the error is [ErrStored].
	Spool func(ctx context.Context) (store.Spool, error)
	// Writing is called before the store is given the blob, and done after that, when nobody
	// joins the flight any more. An error refuses the blob, and [Handle.Wait] returns an error
	// that wraps it. If nil, nothing is refused.
	Writing func() (done func(), err error)
	// Stored is called when the store has the blob, before [Handle.Wait] returns. open opens
	// its bytes, as [store.Spool] does. If nil, it is not called.
	Stored func(size int64, open func() (io.ReadSeekCloser, error))
	// Job says that a copy asks, not a client.
	Job bool
	// Peer says that another cache asks. It is served as a client is, but is not counted as
	// one that joined.
	Peer bool
}

// flight is one download.
type flight struct {
	group  *Group
	req    Request
	remote remote
	spool  *spoolLife

	ctx      context.Context
	cancel   context.CancelCauseFunc
	fetchers sync.WaitGroup // of segments

	promoted chan struct{} // closed when a client joins
	prepared chan struct{} // closed when the download has its slot, and has asked for its spool
	done     chan struct{} // closed at the end: committed, failed or broken
	stored   error         // why the commit failed; written before done is closed

	mu sync.Mutex // guards content and audience
	content
	audience
}

// audience counts the readers that wait for a flight.
type audience struct {
	clients, jobs int
	begun         bool // it has, or had, its slot
	ending        bool // no reader may join any more
}

// unwanted reports whether no reader is left.
func (a *audience) unwanted() bool { return a.clients == 0 && a.jobs == 0 }

// newFlight makes a flight in g, which does not run yet. g.mu is held.
func newFlight(g *Group, req Request, forget func()) *flight {
	f := &flight{
		group: g, req: req,
		remote:   remote{Key: req.Key, open: req.Open, idle: g.Idle, largest: g.Largest},
		spool:    newSpoolLife(forget),
		promoted: make(chan struct{}), prepared: make(chan struct{}), done: make(chan struct{}),
		content: newContent(req.Size, req.Doubt),
	}
	f.ctx, f.cancel = context.WithCancelCause(g.ctx)
	return f
}

// claim is what a download of this blob claims of the slots.
func (f *flight) claim() share.Claim {
	return share.Claim{Rule: f.req.Source.Rule, Host: f.req.Source.Host}
}

// least is how many bytes per second a connection must bring.
func (f *flight) least() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unwanted() {
		return max(orphanRate, f.group.Least)
	}
	return f.group.Least
}

// endIfUnwanted ends the flight if no reader is left, and much is missing or
// nothing has come. f.mu is held.
func (f *flight) endIfUnwanted() {
	if !f.unwanted() || f.over() {
		return
	}
	select {
	case <-f.prepared:
		if f.granted && f.missing() <= f.group.Orphan && f.group.Orphan >= 0 {
			return
		}
	default: // it has not even begun
	}
	f.ending = true
	f.cancel(ErrAbandoned)
}

// frontNow is where the front is.
func (f *flight) frontNow() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.front
}

// sizeNow is the size of the blob, -1 if it is not known yet.
func (f *flight) sizeNow() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// storeFailed reports an error of the store.
func (f *flight) storeFailed(err error) {
	if f.group.StoreFailed != nil {
		f.group.StoreFailed(f.req.Key, err)
	}
}

// dispute reports that a download ended because of its size, if it did.
func (f *flight) dispute(err error) {
	if errors.Is(err, ErrSize) && f.req.Disputed != nil {
		f.req.Disputed()
	}
}
