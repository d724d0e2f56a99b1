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
	"errors"
	"fmt"
	"hash"
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
	// ErrSize reports that the upstream's content has another size than was
	// announced, by a manifest or by the upstream itself.
	ErrSize = errors.New("flight: the size is not the one that was announced")
	// ErrTooLarge reports a blob that is larger than Group.Largest.
	ErrTooLarge = errors.New("flight: the blob is too large")
	// ErrBusy reports that there was no free place among the downloads in time.
	ErrBusy = errors.New("flight: too many downloads")
	// ErrAbandoned reports a flight that was ended because nobody waits for it.
	ErrAbandoned = errors.New("flight: nobody waits for it")
	// ErrClosed reports that the group was closed.
	ErrClosed = errors.New("flight: closed")
	// ErrStored is what Request.Spool returns when the blob is in the store
	// after all: another flight has just ended. The readers find it there.
	ErrStored = errors.New("flight: it is in the store")
)

// errBroken reports that the store cannot keep the blob; readers go on alone.
var errBroken = errors.New("flight: the store cannot keep it")

// broken adds why; errors.Is still finds a full store in it.
func broken(err error) error { return fmt.Errorf("%w: %w", errBroken, err) }

// Broken reports whether err says that a download could not be kept.
func Broken(err error) bool { return errors.Is(err, errBroken) }

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
	// Doubt says that manifest and upstream disagree about the size: nothing is
	// given to readers before the digest has matched.
	Doubt bool
	// Disputed is told that the content has another size than was announced, before
	// any reader is. If nil, nobody is.
	Disputed func()
	// Open gives the repository. It is called for each connection and
	// checkpoint. An [*upstream.Error] is a failure like one of the upstream;
	// any other error ends the flight. ctx is the flight's own.
	Open func(ctx context.Context) (upstream.Repository, error)
	// Spool makes the place where the bytes go. An error is no trouble of the
	// readers, who then download alone.
	Spool func(ctx context.Context) (store.Spool, error)
	// Job says that a copy asks, not a client.
	Job bool
}

// Flight is one download.
type Flight struct {
	group *Group
	req   Request

	ctx      context.Context
	cancel   context.CancelCauseFunc
	promoted chan struct{} // closed when a client joined
	placed   chan struct{} // closed when it has a place among the downloads
	live     chan struct{} // closed at the first good answer, or at the end
	verdict  chan struct{} // closed when the digest matched, or at the end
	done     chan struct{} // closed at the end: committed, failed or broken
	gone     chan struct{} // closed when its spool is free for another flight

	// The front's own: used by run and whom it calls.
	hash       hash.Hash
	tries      tries
	checked    int64 // front of the last checkpoint
	checkpoint sync.WaitGroup
	segmentsWG sync.WaitGroup

	mu       sync.Mutex
	spool    store.Spool // nil: none yet, or not to be opened any more
	openers  int         // who may still open the spool: run, and handles that have not
	size     int64       // -1: unknown
	have     ranges
	front    int64 // all before it is present and hashed
	claimed  int64 // the front is writing up to here
	granted  bool  // the upstream has said 2xx to this process
	answered bool  // readers may have what is here: granted, and the size is not in doubt or all is verified
	verified bool
	broken   error // of the store
	err      error // of the download
	stored   error // of the commit
	clients  int
	jobs     int
	segments []*segment
	noRange  bool // the upstream ignores ranges
	ending   bool // nobody may join any more

	segmentFailures int // in a row
	rate            rate
	waiters         map[*waiter]struct{}
	vouching        bool           // a checkpoint is being written
	state           store.Progress // of a broken flight: where its readers go on
}

// waiter sleeps until off is released.
type waiter struct {
	off   int64
	whole bool
	ready chan struct{}
}

// answer says that the upstream has answered well. f.mu is held.
func (f *Flight) answer() {
	f.granted = true
	if !f.answered && (!f.req.Doubt || f.verified) {
		f.answered = true
		close(f.live)
	}
	f.wake()
}

// over reports whether nothing more will come. f.mu is held.
func (f *Flight) over() bool { return f.verified || f.broken != nil || f.err != nil }

// wake wakes those whose bytes are there, or all at the end. f.mu is held.
func (f *Flight) wake() {
	over := f.over()
	for w := range f.waiters {
		if over || f.released(w.off, w.whole) > 0 {
			delete(f.waiters, w)
			close(w.ready)
		}
	}
}

// released returns how many bytes from off on may be read. f.mu is held.
func (f *Flight) released(off int64, whole bool) int64 {
	if !f.answered {
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

// at is where the front is.
func (f *Flight) at() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.front
}

// rate measures bytes per second over about half a second.
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
