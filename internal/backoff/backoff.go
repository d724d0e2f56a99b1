// Package backoff computes when something that failed is tried again.
package backoff

import (
	"math"
	"math/rand/v2"
	"time"
)

// Backoff is a sequence of pauses that double. It is a value and safe for
// concurrent use.
type Backoff struct {
	// First is the pause after a first failure.
	First time.Duration
	// Longest bounds the pauses before Jitter.
	Longest time.Duration
	// Jitter is the part of a pause, between 0 and 1, that chance adds to it at
	// most, so that what failed together is not tried again together.
	Jitter float64
}

// Pause returns the pause after a failure that n failures in a row precede: First
// doubled n times, at most Longest, and up to Jitter of it more. It never overflows.
// It is 0 if First or Longest is not positive; a negative n is as good as 0.
func (b Backoff) Pause(n int) time.Duration {
	d := max(0, min(b.First, b.Longest))
	for ; n > 0 && 0 < d && d < b.Longest; n-- {
		if d > b.Longest-d { // its double exceeds Longest, or no Duration holds it
			d = b.Longest
		} else {
			d *= 2
		}
	}
	return d + chance(d, b.Jitter)
}

// chance returns a random part of d, at most jitter of it.
func chance(d time.Duration, jitter float64) time.Duration {
	most := float64(d) * min(jitter, 1)
	room := math.MaxInt64 - d // what can be added without an overflow
	switch {
	case most >= float64(room) && room > 0:
		return rand.N(room) + 1
	case most >= 1 && most < float64(room):
		return rand.N(time.Duration(most)) + 1
	}
	return 0
}

// Restore corrects the times of something that is to be tried again and that a
// former process recorded, perhaps with a clock that was ahead of ours: it was not
// created after now, and it is tried now if that would otherwise be more than longest
// from now, which no pause is.
func Restore(created, next, now time.Time, longest time.Duration) (time.Time, time.Time) {
	if created.After(now) {
		created = now
	}
	if next.After(now.Add(longest)) {
		next = now
	}
	return created, next
}
