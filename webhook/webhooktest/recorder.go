// Package webhooktest is a receiver of webhooks for tests: real HTTP on loopback,
// a record of what arrived, every fault that a receiver can have, and a check of
// everything it is sent.
//
//	hook := webhooktest.New(t)
//	c := &cache.Cache{Rules: rules, Events: &webhook.HTTP{URL: hook.URL()}}
//	... pull something ...
//	if err := hook.Wait(ctx, 3); err != nil { ... }
//	hook.Events()
//
// It takes events in all three encodings of [webhook.HTTP]. A request with a problem,
// such as a field that ACR does not have, gets a 4xx status. The problem is a
// complaint, which fails the test.
package webhooktest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
	"github.com/pullthrough/pullthrough/webhook"
)

// Recorder is a receiver. Its methods are safe for concurrent use, also while it
// serves requests. Make one with [New], [Start] or [NewHandler].
type Recorder struct {
	server     *fakeserver.Server
	log        fakeserver.Log[Delivery]
	faults     fakeserver.Faults[Fault]
	complaints fakeserver.Complaints

	mu          sync.Mutex
	bodies      map[string]string // the JSON of each event, by its ID
	secrets     []string
	contentType string
}

// Delivery is one request that arrived.
type Delivery struct {
	// Event is the event in the request, and Encoding how it was written.
	Event    webhook.Event
	Encoding webhook.Encoding
	Time     time.Time
	Method   string
	// Path is the path of the URL, with its query.
	Path   string
	Header http.Header
	Body   []byte
	// Status is the status of the response. It is zero if there was none, or none yet.
	Status int
	// Taken reports whether the event was taken over.
	Taken bool
}

// New starts a receiver that ends with the test.
func New(t testing.TB) *Recorder {
	t.Helper()
	r, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	r.complaints.T = t
	t.Cleanup(r.Close)
	return r
}

// Start starts a receiver on a free port of 127.0.0.1, without a test, so that
// complaints fail nothing and are only kept.
func Start() (*Recorder, error) {
	r := NewHandler()
	if err := r.server.Start(); err != nil {
		return nil, err
	}
	return r, nil
}

// NewHandler makes a receiver that listens nowhere and has no URL: it answers the
// requests that are given to its ServeHTTP or its Transport.
func NewHandler() *Recorder {
	r := &Recorder{bodies: map[string]string{}, complaints: fakeserver.Complaints{Name: name}}
	r.server = fakeserver.New(name, r, nil)
	return r
}

// name is what errors and complaints begin with.
const name = "webhooktest"

// URL is where events are posted, with a path and no query. It is empty if the
// receiver never listened.
func (r *Recorder) URL() string {
	address := r.server.Address()
	if address == "" {
		return ""
	}
	return "http://" + address + "/hook"
}

// Stop closes the port and every connection, so that the receiver is down. What it has
// recorded stays.
func (r *Recorder) Stop() { r.server.Stop() }

// Restart answers again after Stop, on the same port.
func (r *Recorder) Restart() error { return r.server.Restart() }

// Close stops the receiver for good, and returns when no request is being answered.
func (r *Recorder) Close() {
	r.server.Close()
	r.server.Wait()
}

// Transport returns a transport that hands each request to the receiver without a
// network, whatever its host is. It also works in the fake time of testing/synctest.
// While the receiver is stopped, it refuses connections.
func (r *Recorder) Transport() http.RoundTripper { return r.server.Transport() }

// RequireSignature demands that every request is signed as in Standard Webhooks, with
// one of the secrets. Another request gets a 401 and is a complaint.
func (r *Recorder) RequireSignature(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets = secrets
}

// ExpectContentType demands a Content-Type instead of application/json, for senders
// that replace it.
func (r *Recorder) ExpectContentType(contentType string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.contentType = contentType
}

// Deliveries returns every request that arrived, in order, with any response.
func (r *Recorder) Deliveries() []Delivery { return r.log.All() }

// Events returns the events that were taken over, each once, in the order of
// their first arrival.
func (r *Recorder) Events() []webhook.Event {
	var all []webhook.Event
	seen := map[string]bool{}
	for _, d := range r.Deliveries() {
		if d.Taken && !seen[d.Event.ID] {
			seen[d.Event.ID] = true
			all = append(all, d.Event)
		}
	}
	return all
}

// WantEvents complains, with what differs, unless the events that were taken over
// since the last Reset are these, in any order, and reports whether they are. Each
// is an action and what it is about, such as "push team/api:v1"; see
// [webhook.Event.Subject]. An event that came twice counts once.
func (r *Recorder) WantEvents(want ...string) bool {
	if t := r.complaints.T; t != nil {
		t.Helper()
	}
	var got []string
	for _, ev := range r.Events() {
		got = append(got, strings.TrimSpace(ev.Action+" "+ev.Subject()))
	}
	return r.complaints.Want("events", got, want)
}

// IDs returns how often each event was taken over, by the event's ID.
func (r *Recorder) IDs() map[string]int { return taken(r.Deliveries()) }

// taken counts the deliveries that were taken over, by the IDs of their events.
func taken(deliveries []Delivery) map[string]int {
	n := map[string]int{}
	for _, d := range deliveries {
		if d.Taken {
			n[d.Event.ID]++
		}
	}
	return n
}

// Reset forgets the deliveries that have arrived so far.
func (r *Recorder) Reset() { r.log.Reset() }

// Wait returns when at least n different events were taken over. If ctx ends before,
// the error says how many were.
func (r *Recorder) Wait(ctx context.Context, n int) error {
	return r.wait(ctx, n, "events were taken over", func(all []Delivery) int { return len(taken(all)) })
}

// WaitDeliveries is Wait for requests, with any response.
func (r *Recorder) WaitDeliveries(ctx context.Context, n int) error {
	return r.wait(ctx, n, "deliveries arrived", func(all []Delivery) int { return len(all) })
}

func (r *Recorder) wait(ctx context.Context, n int, what string, count func([]Delivery) int) error {
	if got, err := r.log.Wait(ctx, n, count); err != nil {
		return fmt.Errorf("%s: %d of %d %s: %w", name, got, n, what, err)
	}
	return nil
}

// Complaints returns the problems of requests, which a correct sender does not have.
// In a test each has failed the test already.
func (r *Recorder) Complaints() []string { return r.complaints.All() }
