package webhooktest

import (
	"net/http"

	"github.com/pullthrough/pullthrough/webhook"
)

// Fault is what goes wrong. The first one that fits a request happens, to
// requests that are right in themselves.
type Fault struct {
	// ID and Action say which events; empty: any.
	ID, Action string
	// Times is how often it happens; 0: always.
	Times int

	// Hang answers nothing until [Recorder.Release] or the sender leaves; what the
	// other fields say comes after it.
	Hang bool
	// Do answers instead of everything else; the event is not taken over.
	Do http.HandlerFunc
	// Break ends the connection without an answer.
	Break bool
	// Lose takes the event over and then ends the connection: the sender cannot
	// know.
	Lose bool
	// Status answers with that status. If zero, 307 with Redirect, else 200.
	Status int
	// RetryAfter is the header of that name.
	RetryAfter string
	// Redirect is the Location header.
	Redirect string
}

// Fail adds a fault.
func (r *Recorder) Fail(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
}

// Heal removes all faults, and releases what hangs.
func (r *Recorder) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
	r.release()
}

// Release lets the requests go on that hang now.
func (r *Recorder) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.release()
}

func (r *Recorder) release() {
	close(r.released)
	r.released = make(chan struct{})
}

// fault finds what goes wrong with an event, nothing being the zero Fault. r.mu
// is held.
func (r *Recorder) fault(ev webhook.Event) Fault {
	for i, f := range r.faults {
		if f.ID != "" && f.ID != ev.ID || f.Action != "" && f.Action != ev.Action {
			continue
		}
		if f.Times == 1 {
			r.faults = append(r.faults[:i:i], r.faults[i+1:]...)
		} else if f.Times > 1 {
			f.Times--
		}
		return *f
	}
	return Fault{}
}
