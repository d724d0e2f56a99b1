package flight

import (
	"sync"
	"time"
)

const (
	// checkpointSize is how far the front goes between two full checkpoints.
	checkpointSize = 8 << 20

	// An early checkpoint is due when the front has gone on by 1/earlyShare of what is there,
	// but by earlyLeast at least: what a killed process has to fetch again is then a small
	// part of the blob, and the number of checkpoints grows with the logarithm of its size.
	earlyLeast = 512 << 10
	earlyShare = 64

	// earlyRate is how many bytes per second a download brings at most that has early
	// checkpoints. A faster one soon has a full one, and loses what came in 1/16 s.
	earlyRate = 128 << 20

	// earlyPause is how much later an early checkpoint of a group begins than the one before.
	earlyPause = 15 * time.Millisecond
	// earlyRest is how many times as long as it took one pauses at least, from its beginning
	// on: a slow disk is busy with them for half of the time.
	earlyRest = 2
)

// earlyTurn is the turn to make an early checkpoint, which the downloads of a group take one
// after the other: the disk is to sync as often for many of them as for one.
type earlyTurn struct {
	mu    sync.Mutex
	taken bool
	began time.Time // the last turn
	next  time.Time // when the next one may begin
}

// take takes the turn if it is free. The download that has it must call end.
func (e *earlyTurn) take() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.taken || now.Before(e.next) {
		return false
	}
	e.taken, e.began = true, now
	return true
}

// end gives the turn back.
func (e *earlyTurn) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.taken = false
	e.next = e.began.Add(max(earlyPause, earlyRest*time.Since(e.began)))
}

// early reports whether an early checkpoint is due at front, with so many bytes still
// missing, and takes the turn for it.
func (s *spoolSink) early(front, missing int64) bool {
	came := front - s.checked
	least := max(earlyLeast, front/earlyShare)
	return came >= least &&
		missing >= least && // what commits the blob comes soon else
		float64(came) <= earlyRate*time.Since(s.began).Seconds() &&
		s.f.group.early.take()
}
