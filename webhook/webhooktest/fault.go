package webhooktest

import (
	"net/http"

	"github.com/pullthrough/pullthrough/webhook"
)

// Fault is something that goes wrong at the receiver. The first fault that fits a
// request happens to it, unless the request itself is wrong: then it gets a 4xx.
type Fault struct {
	// ID and Action select the events. If empty, they select any event.
	ID, Action string
	// Times is how often the fault happens. If zero, it always does.
	Times int

	// Hang answers nothing until [Recorder.Release] is called or the sender leaves.
	// After a release the other fields apply.
	Hang bool
	// Do answers instead of the fields below. The event does not count as taken over.
	Do http.HandlerFunc
	// Break ends the connection without a response.
	Break bool
	// Lose takes the event over and then ends the connection without a response, so
	// that the sender cannot know.
	Lose bool
	// Status is the status of the response. If zero, it is 307 with Redirect and 200
	// without.
	Status int
	// RetryAfter is the Retry-After header. If empty, there is none.
	RetryAfter string
	// Redirect is the Location header. If empty, there is none.
	Redirect string
}

// Fail adds a fault, after those that were added before.
func (r *Recorder) Fail(f Fault) { r.faults.Fail(f, f.Times) }

// Heal removes all faults, and releases the requests that hang.
func (r *Recorder) Heal() {
	r.faults.Heal()
	r.server.Release()
}

// Release ends the hanging of the requests that hang now.
func (r *Recorder) Release() { r.server.Release() }

// fault returns the fault that happens to an event, or the zero Fault.
func (r *Recorder) fault(ev webhook.Event) Fault {
	f, _ := r.faults.Next(func(f Fault) bool {
		return (f.ID == "" || f.ID == ev.ID) && (f.Action == "" || f.Action == ev.Action)
	})
	return f
}
