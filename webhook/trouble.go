package webhook

import (
	"container/heap"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"
)

// fewTries are too few to give up an event: it may be old because the process
// was down, and fail because everything starts at once.
const fewTries = 3

// expired reports whether a try of an item that fails is its last one.
func (q *queue) expired(it *item) bool {
	return time.Since(it.created) >= q.b.limits.giveUp && it.attempts >= fewTries
}

// answers notes that the receiver works. What failed by its fault is due again.
// q.mu is held.
func (q *queue) answers() {
	if q.failures == 0 {
		return
	}
	q.failures, q.strikes, q.paused = 0, 0, time.Time{}
	q.era++
	now := time.Now()
	for _, it := range q.due {
		it.pardon(now)
	}
	heap.Init(&q.due)
}

// pardon makes an item due that failed by the fault of its receiver. It does so
// once: an event that fails whenever others do not is at fault itself, and would
// be tried again with each of them.
func (it *item) pardon(now time.Time) {
	if it.waits {
		it.waits, it.pardoned = false, true
		if it.next.After(now) {
			it.next = now
		}
	}
}

// fails notes a failure and reports whether it is the receiver's. From the second
// event on that fails in a row, the receiver is left alone as a whole: one alone
// may be at fault itself, however often it fails. q.mu is held.
func (q *queue) fails(it *item, err error, now time.Time) bool {
	if refused(err) {
		q.answers()
		return false
	}
	q.failures++
	if it.era != q.era {
		it.era = q.era
		q.strikes++
	}
	if q.strikes > 1 {
		q.paused = later(q.paused, now.Add(q.pause(q.strikes-2)))
	}
	q.asked = later(q.asked, now.Add(retryAfterOf(err)))
	return true
}

// refused reports whether an answer speaks of the event, and not of a receiver
// that moved, wants another token or is overrun.
func refused(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	if !ok {
		return false
	}
	switch status.StatusCode {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

func retryAfterOf(err error) time.Duration {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.RetryAfter
	}
	return 0
}

// pause is how long to wait after n failures before, with up to a quarter more.
func (q *queue) pause(n int) time.Duration {
	d, longest := q.b.limits.firstPause, q.b.limits.longestPause
	for ; n > 0 && d < longest; n-- {
		d *= 2
	}
	d = min(d, longest)
	return d + rand.N(d/4+1)
}
