package webhook

import (
	"errors"
	"net/http"
	"time"

	"github.com/pullthrough/pullthrough/internal/backoff"
)

// health is how a receiver of an outbox is doing. It has three states:
//
//	well     the receiver answered the last delivery, or was not tried yet
//	failing  deliveries of one event have failed since then, however often: the
//	         event itself may be at fault
//	paused   deliveries of several events have failed: the receiver is at fault and
//	         is left alone as a whole, longer with each further event
//
// Each failure leads one step down or stays, and each answer leads back to well,
// also an answer that refuses the event. In every state the receiver may be left
// alone because it asked for that with Retry-After. Only time, a resend or a ping
// ends that: an answer to a delivery that began before does not.
//
// A health reads no clock and is not safe for concurrent use.
type health struct {
	pauses   backoff.Backoff
	failures int       // consecutive failures
	events   int       // different events among them
	streak   uint64    // number of the last series of consecutive failures, from 1
	paused   time.Time // the receiver is left alone until then for its failures
	asked    time.Time // the receiver asked to be left alone until then
}

// blame is what is known of one event's part in the failures of its receiver.
type blame struct {
	streak   uint64 // the last series of failures that the event was part of
	waits    bool   // retry as soon as the receiver answers anything: the failure was the receiver's
	pardoned bool   // the event was already retried that way once
}

// failed notes that a delivery of an event failed with err. It reports whether that
// ended a series of failures: err may be an answer, which refuses only the event.
func (h *health) failed(ev *blame, err error, now time.Time) (recovered bool) {
	if refused(err) {
		ev.waits = false
		return h.answered()
	}
	if h.failures == 0 {
		h.streak++
	}
	h.failures++
	if ev.streak != h.streak {
		ev.streak = h.streak
		h.events++
	}
	if h.events > 1 {
		h.paused = later(h.paused, now.Add(h.pauses.Pause(h.events-2)))
	}
	if wait := retryAfterOf(err); wait > 0 {
		h.asked = later(h.asked, now.Add(wait))
	}
	ev.waits = !ev.pardoned
	return false
}

// answered notes that the receiver answered a delivery. It reports whether that
// ended a series of failures, so that the events of those are due again.
func (h *health) answered() (recovered bool) {
	recovered = h.failures > 0
	h.failures, h.events, h.paused = 0, 0, time.Time{}
	return recovered
}

// pinged notes that the receiver took a ping. A person asked for the ping, so it also
// ends the time that the receiver asked for.
func (h *health) pinged() (recovered bool) {
	h.asked = time.Time{}
	return h.answered()
}

// hurry ends the time in which the receiver is left alone. Its failures still count.
func (h *health) hurry() { h.paused, h.asked = time.Time{}, time.Time{} }

// well reports whether nothing has failed since the last answer.
func (h *health) well() bool { return h.failures == 0 }

// restsUntil returns when the receiver is to be tried again. A time that has passed
// means now.
func (h *health) restsUntil() time.Time { return later(h.paused, h.asked) }

// pardon reports whether an event is due because its receiver has recovered. That
// happens once: an event that fails whenever others do not is at fault itself, and
// would be tried again with each of them.
func (ev *blame) pardon() bool {
	due := ev.waits
	ev.waits, ev.pardoned = false, ev.pardoned || due
	return due
}

// refused reports whether an error is an answer that concerns the event only, and
// not a receiver that moved, wants another token or has too much to do.
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

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
