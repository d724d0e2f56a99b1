package flight

import (
	"context"
	"errors"
	"time"

	"github.com/pullthrough/pullthrough/internal/backoff"
	"github.com/pullthrough/pullthrough/upstream"
)

const (
	firstPause = 100 * time.Millisecond // before the first retry; doubles
	maxStalls  = 7                      // retries in a row without progress
	longestNap = time.Minute            // the longest pause, and the longest Retry-After that is waited for
)

// tries decides whether and when a failed connection is followed by another one.
type tries struct {
	answered bool // the upstream has answered well
	whole    bool // ask for everything: ranges do not work here
	stalls   int  // connections in a row that brought next to nothing
}

// next judges a connection that failed at the byte at off after it had brought
// taken bytes.
func (t *tries) next(err error, taken, off int64) (pause time.Duration, again bool) {
	t.stalls++
	if taken >= segmentAlign {
		t.stalls = 0
	}
	if hopeless(err) || t.stalls > maxStalls {
		return 0, false
	}
	pause = backoff.Backoff{First: firstPause, Longest: longestNap}.Pause(t.stalls - 1)
	class, known := upstream.ClassOf(err)
	switch {
	case errors.Is(err, errEnd) && t.stalls == 0: // it sends large blobs in pieces
		return 0, true
	case !known: // the body broke off or stalled
		return pause, t.answered
	case class == upstream.Limited:
		e, _ := errors.AsType[*upstream.Error](err)
		pause = max(pause, e.RetryAfter, time.Second)
		return pause, t.answered && pause <= longestNap
	case class == upstream.Protocol:
		// Ranges may be what it cannot do: ask once for everything.
		again = !t.whole && off > 0
		t.whole = true
		return pause, again
	case class == upstream.Unreachable:
		return pause, t.answered || t.stalls <= 1
	}
	return 0, false
}

// hopeless reports whether no other connection can mend err.
func hopeless(err error) bool {
	_, gone := errors.AsType[*goneError](err)
	return gone || errors.Is(err, errBroken) || errors.Is(err, ErrSize) || errors.Is(err, ErrTooLarge)
}

// tooSlow reports whether a connection was cut because it brought too little.
func tooSlow(err error) bool { return errors.Is(err, errIdle) || errors.Is(err, errSlow) }

// nap waits before the next connection.
func nap(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
