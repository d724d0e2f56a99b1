package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/backoff"
)

var (
	errDown    = errors.New("the receiver is down")
	errRefused = &StatusError{StatusCode: http.StatusBadRequest}
)

// busy is an answer that asks to be left alone.
func busy(d time.Duration) error {
	return &StatusError{StatusCode: http.StatusTooManyRequests, RetryAfter: d}
}

// move is something that happens to a health, and what is true after it. Times are
// seconds since the test began.
type move struct {
	at    int
	event string // the one whose delivery ended
	does  any    // error: it failed, nil: it was answered; or "ping" or "hurry"

	recovered bool
	failures  int
	rest      int // the receiver is left alone until then, and up to slack longer; 0: it is not
	slack     int
	waits     bool // of the event
}

// The pauses are 8, 16, 32 and 40 seconds, and up to a quarter longer.
func TestHealth(t *testing.T) {
	for name, moves := range map[string][]move{
		"a receiver that always answers": {
			{event: "a"},
			{at: 1, event: "b"},
		},
		"one event fails however often, and the receiver is not to blame": {
			{at: 1, event: "a", does: errDown, failures: 1, waits: true},
			{at: 2, event: "a", does: errDown, failures: 2, waits: true},
			{at: 3, event: "a", does: errDown, failures: 3, waits: true},
			{at: 4, event: "b", recovered: true},
			{at: 5, event: "b"},
		},
		"each further event that fails doubles the pause, and no event does so twice": {
			{at: 1, event: "a", does: errDown, failures: 1, waits: true},
			{at: 2, event: "b", does: errDown, failures: 2, rest: 10, slack: 2, waits: true},
			{at: 12, event: "b", does: errDown, failures: 3, rest: 20, slack: 2, waits: true},
			{at: 22, event: "c", does: errDown, failures: 4, rest: 38, slack: 4, waits: true},
			{at: 43, event: "d", does: errDown, failures: 5, rest: 75, slack: 8, waits: true},
			{at: 84, event: "e", does: errDown, failures: 6, rest: 124, slack: 10, waits: true},
			{at: 135, event: "f", does: errDown, failures: 7, rest: 175, slack: 10, waits: true},
			{at: 136, event: "f", recovered: true, waits: true},
		},
		"after an answer everything begins from the start": {
			{at: 1, event: "a", does: errDown, failures: 1, waits: true},
			{at: 2, event: "b", does: errDown, failures: 2, rest: 10, slack: 2, waits: true},
			{at: 3, event: "c", recovered: true},
			{at: 4, event: "a", does: errDown, failures: 1, waits: true},
			{at: 5, event: "a", does: errDown, failures: 2, waits: true},
			{at: 6, event: "b", does: errDown, failures: 3, rest: 14, slack: 2, waits: true},
		},
		"an answer that refuses an event is an answer": {
			{at: 1, event: "a", does: errRefused},
			{at: 2, event: "a", does: errDown, failures: 1, waits: true},
			{at: 3, event: "b", does: errDown, failures: 2, rest: 11, slack: 2, waits: true},
			{at: 4, event: "a", does: errRefused, recovered: true},
			{at: 5, event: "a", does: errDown, failures: 1, waits: true},
		},
		"a short pause does not cut a long one": {
			{at: 1, event: "a", does: errDown, failures: 1, waits: true},
			{at: 2, event: "b", does: errDown, failures: 2, rest: 10, slack: 2, waits: true},
			{at: 2, event: "c", does: errDown, failures: 3, rest: 18, slack: 4, waits: true},
			{at: 3, event: "a", does: errDown, failures: 4, rest: 19, slack: 4, waits: true},
		},
		"Retry-After holds for one event that failed, and an answer does not end it": {
			{at: 1, event: "a", does: busy(time.Minute), failures: 1, rest: 61, waits: true},
			{at: 2, event: "b", recovered: true, rest: 61},
			{at: 3, event: "c", does: errDown, failures: 1, rest: 61, waits: true},
			{at: 3, event: "c", does: errRefused, recovered: true, rest: 61},
			{at: 62, event: "c"},
		},
		"the longer of two Retry-After, and the longer of it and a pause": {
			{at: 1, event: "a", does: busy(time.Minute), failures: 1, rest: 61, waits: true},
			{at: 2, event: "a", does: busy(time.Second), failures: 2, rest: 61, waits: true},
			{at: 60, event: "b", does: errDown, failures: 3, rest: 68, slack: 2, waits: true},
			{at: 61, event: "b", does: busy(time.Hour), failures: 4, rest: 3661, waits: true},
		},
		"a ping ends Retry-After too": {
			{at: 1, event: "a", does: busy(time.Minute), failures: 1, rest: 61, waits: true},
			{at: 2, event: "b", does: errDown, failures: 2, rest: 61, waits: true},
			{at: 3, does: "ping", recovered: true},
			{at: 4, event: "c", does: busy(time.Minute), failures: 1, rest: 64, waits: true},
			{at: 5, event: "c", recovered: true, rest: 64, waits: true},
			{at: 6, does: "ping"},
		},
		"a resend ends the rest and forgets no failure": {
			{at: 1, event: "a", does: busy(time.Minute), failures: 1, rest: 61, waits: true},
			{at: 2, event: "b", does: errDown, failures: 2, rest: 61, waits: true},
			{at: 3, does: "hurry", failures: 2},
			{at: 4, event: "c", does: errDown, failures: 3, rest: 20, slack: 4, waits: true},
			{at: 5, event: "c", recovered: true, waits: true},
		},
		"a clock that goes back": {
			{at: 1000, event: "a", does: errDown, failures: 1, waits: true},
			{at: 0, event: "a", does: errDown, failures: 2, waits: true},
			{at: 1000, event: "b", does: errDown, failures: 3, rest: 1008, slack: 2, waits: true},
			{at: 0, event: "c", does: errDown, failures: 4, rest: 1008, slack: 2, waits: true},
			{at: 0, event: "c", does: busy(time.Minute), failures: 5, rest: 1008, slack: 2, waits: true},
			{at: 1, event: "a", recovered: true, rest: 60, waits: true},
			{at: 2, event: "b", does: errDown, failures: 1, rest: 60, waits: true},
		},
	} {
		t.Run(name, func(t *testing.T) { walk(t, moves) })
	}
}

// walk makes the moves one after the other on a health that is new.
func walk(t *testing.T, moves []move) {
	began := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	h := &health{pauses: backoff.Backoff{First: 8 * time.Second, Longest: 40 * time.Second, Jitter: 0.25}}
	events := map[string]*blame{"": {}}
	for i, m := range moves {
		ev := events[m.event]
		if ev == nil {
			ev = &blame{}
			events[m.event] = ev
		}
		now := began.Add(time.Duration(m.at) * time.Second)
		var recovered bool
		switch does := m.does.(type) {
		case nil:
			recovered = h.answered()
		case error:
			recovered = h.failed(ev, does, now)
		case string:
			if does == "ping" {
				recovered = h.pinged()
			} else {
				h.hurry()
			}
		}
		where := fmt.Sprintf("move %d, at %d", i+1, m.at)
		if recovered != m.recovered || h.failures != m.failures || h.well() != (m.failures == 0) || ev.waits != m.waits {
			t.Errorf("%s: recovered %v, %d failures, well %v, waits %v; want %+v", where, recovered, h.failures, h.well(), ev.waits, m)
		}
		rest := h.restsUntil().Sub(began).Seconds()
		if m.rest == 0 && h.restsUntil().After(now) || m.rest != 0 && (rest < float64(m.rest) || rest > float64(m.rest+m.slack)) {
			t.Errorf("%s: rests until %v, want %d and up to %d more", where, rest, m.rest, m.slack)
		}
	}
}

// An event is retried with the recovery of its receiver once: whatever follows is its
// own fault.
func TestPardonIsGivenOnce(t *testing.T) {
	h, ev := &health{}, &blame{}
	now := time.Now()
	if ev.pardon() {
		t.Error("an event that never failed")
	}
	h.failed(ev, errDown, now)
	h.answered()
	if !ev.pardon() || ev.pardon() {
		t.Error("it is not due once")
	}
	h.failed(ev, errDown, now)
	h.answered()
	if ev.pardon() {
		t.Error("due again, and failed again while the receiver was well")
	}

	refused := &blame{}
	h.failed(refused, errDown, now)
	h.failed(refused, errRefused, now)
	if refused.pardon() {
		t.Error("the receiver answered it: it is at fault itself")
	}
	h.failed(refused, errDown, now)
	if !refused.pardon() {
		t.Error("it has not been pardoned before")
	}
}

// An item that is pardoned comes first only if it was to wait.
func TestPardonOfItems(t *testing.T) {
	now := time.Now()
	waits := blame{waits: true}
	var d due
	for _, it := range []*item{
		{id: "later", next: now.Add(time.Hour), blame: waits},
		{id: "its own fault", next: now.Add(time.Minute)},
		{id: "earlier", next: now.Add(-time.Hour), blame: waits},
	} {
		d.Push(it)
	}
	d.pardon(now)
	next := map[string]time.Duration{}
	for i, it := range d {
		if next[it.id] = it.next.Sub(now); it.index != i {
			t.Errorf("%s is at %d, not %d", it.id, i, it.index)
		}
	}
	if next["later"] != 0 || next["its own fault"] != time.Minute || next["earlier"] != -time.Hour || d[0].id != "earlier" {
		t.Errorf("%v; first %s", next, d[0].id)
	}
}

func TestStatusesThatRefuseTheEvent(t *testing.T) {
	for status, want := range map[int]bool{400: true, 409: true, 413: true, 415: true, 422: true,
		301: false, 401: false, 403: false, 404: false, 408: false, 410: false, 429: false, 500: false, 503: false} {
		err := fmt.Errorf("a sink: %w", &StatusError{StatusCode: status})
		if refused(err) != want {
			t.Errorf("%d refuses the event: %v", status, !want)
		}
	}
	if refused(errDown) {
		t.Error("no answer refuses the event")
	}
}
