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
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

// Recorder is a receiver. Its methods are safe for concurrent use, also while it
// serves requests. Make one with [New], [Start] or [NewHandler].
type Recorder struct {
	t testing.TB // if nil, complaints are only kept

	mu          sync.Mutex
	address     string
	server      *http.Server
	halted      chan struct{} // closed by Stop, which ends hanging handlers
	released    chan struct{} // closed by Release
	changed     chan struct{} // closed when something is recorded
	handlers    sync.WaitGroup
	closed      bool
	log         []*Delivery
	bodies      map[string]string // the JSON of each event, by its ID
	faults      []*Fault
	secrets     []string
	contentType string
	complaints  []string
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
	r.t = t
	t.Cleanup(r.Close)
	return r
}

// Start starts a receiver on a free port of 127.0.0.1, without a test, so that
// complaints fail nothing and are only kept.
func Start() (*Recorder, error) {
	r := NewHandler()
	if err := r.listen(); err != nil {
		return nil, err
	}
	return r, nil
}

// NewHandler makes a receiver that listens nowhere and has no URL: it answers the
// requests that are given to its ServeHTTP or its Transport.
func NewHandler() *Recorder {
	return &Recorder{halted: make(chan struct{}), released: make(chan struct{}), changed: make(chan struct{}), bodies: map[string]string{}}
}

func (r *Recorder) listen() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server != nil {
		return nil
	}
	address := r.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("webhooktest: %w", err)
	}
	r.address, r.halted, r.closed = l.Addr().String(), make(chan struct{}), false
	s := &http.Server{Handler: r, ErrorLog: log.New(io.Discard, "", 0)}
	r.server = s
	go func() { _ = s.Serve(l) }()
	return nil
}

// URL is where events are posted, with a path and no query. It is empty if the
// receiver never listened.
func (r *Recorder) URL() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.address == "" {
		return ""
	}
	return "http://" + r.address + "/hook"
}

// Stop closes the port and every connection, so that the receiver is down. What it has
// recorded stays.
func (r *Recorder) Stop() {
	r.mu.Lock()
	s := r.server
	r.server = nil
	r.halt()
	r.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
}

// halt ends the requests that hang. r.mu is held.
func (r *Recorder) halt() {
	select {
	case <-r.halted:
	default:
		close(r.halted)
	}
}

// Restart listens again on the same port.
func (r *Recorder) Restart() error { return r.listen() }

// Close stops the receiver for good, and returns when no request is being answered.
func (r *Recorder) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.Stop()
	r.handlers.Wait()
}

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
func (r *Recorder) Deliveries() []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Delivery, 0, len(r.log))
	for _, d := range r.log {
		all = append(all, *d)
	}
	return all
}

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

// IDs returns how often each event was taken over, by the event's ID.
func (r *Recorder) IDs() map[string]int {
	n := map[string]int{}
	for _, d := range r.Deliveries() {
		if d.Taken {
			n[d.Event.ID]++
		}
	}
	return n
}

// Reset forgets the deliveries that have arrived so far.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = nil
}

// Wait returns when at least n different events were taken over. If ctx ends before,
// the error says how many were.
func (r *Recorder) Wait(ctx context.Context, n int) error {
	return r.wait(ctx, n, "events were taken over", func() int { return len(r.IDs()) })
}

// WaitDeliveries is Wait for requests, with any response.
func (r *Recorder) WaitDeliveries(ctx context.Context, n int) error {
	return r.wait(ctx, n, "deliveries arrived", func() int { return len(r.Deliveries()) })
}

func (r *Recorder) wait(ctx context.Context, n int, what string, count func() int) error {
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		got := count()
		if got >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("webhooktest: %d of %d %s: %w", got, n, what, context.Cause(ctx))
		}
	}
}

// news wakes the calls of wait. r.mu is held.
func (r *Recorder) news() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Complaints returns the problems of requests, which a correct sender does not have.
// In a test each has failed the test already.
func (r *Recorder) Complaints() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.complaints)
}

func (r *Recorder) complain(text string) {
	text = "webhooktest: " + text
	r.mu.Lock()
	r.complaints = append(r.complaints, text)
	r.mu.Unlock()
	if r.t != nil {
		r.t.Error(text)
	}
}
