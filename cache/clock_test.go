package cache_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// inMemory reaches a handler without a socket, so that a bubble of synctest has
// the whole cache in it. An answer is complete before its header arrives.
type inMemory struct{ h http.Handler }

func (m inMemory) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	m.h.ServeHTTP(w, req)
	if err := req.Context().Err(); err != nil { // its client has left meanwhile
		return nil, err
	}
	resp = w.Result()
	resp.Request = req
	return resp, nil
}

// clock is a cache in a bubble, where hours pass at once.
type clock struct {
	*testing.T
	up    *upstreamtest.Registry
	rules *rule.Set
	store store.Store
	cache *cache.Cache

	mu     sync.Mutex // held by who writes what follows; see pass
	events []webhook.Event
	parked []cache.CopyState
}

const source = "registry.example.com"

// inBubble runs a test with a cache whose rule maps app/* to team/*.
func inBubble(t *testing.T, test func(c *clock), setup ...func(*clock)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &clock{T: t, up: upstreamtest.NewHandler(), store: &store.Mem{}}
		var err error
		c.rules, err = rule.NewSet(rule.Rule{Name: "team", Source: source + "/team/*", Target: "app/*"})
		if err != nil {
			t.Fatal(err)
		}
		c.start(setup...)
		defer func() { // also when the test ends early, or the bubble never does
			c.stop()
			for _, text := range c.up.Complaints() {
				t.Error(text)
			}
		}()
		test(c)
	})
}

// start makes the cache of a process.
func (c *clock) start(setup ...func(*clock)) {
	c.Helper()
	c.cache = &cache.Cache{Rules: c.rules, Store: c.store, Upstream: &upstream.Client{Transport: inMemory{c.up}},
		Events: webhook.SinkFunc(func(_ context.Context, ev webhook.Event) error {
			c.noting(func() { c.events = append(c.events, ev) })
			return nil
		}),
		Parked: func(s cache.CopyState) { c.noting(func() { c.parked = append(c.parked, s) }) }}
	for _, f := range setup {
		f(c)
	}
	if err := c.cache.Start(c.Context()); err != nil {
		c.Fatal(err)
	}
}

// stop ends the process: what is unfinished stays in the store.
func (c *clock) stop() {
	c.Helper()
	if err := c.cache.Shutdown(context.Background()); err != nil {
		c.Error(err)
	}
}

// manifest pulls a manifest; its copy runs behind it.
func (c *clock) manifest(reference string) {
	c.Helper()
	if _, _, err := c.cache.Manifest(c.Context(), "app/api", reference); err != nil {
		c.Fatalf("%s: %v", reference, err)
	}
}

// noting writes what a test reads after pass.
func (c *clock) noting(write func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	write()
}

// pass lets time pass, and everything happen that happens in it. What the test
// has read before comes before what is noted meanwhile.
func (c *clock) pass(d time.Duration) {
	c.noting(func() {})
	time.Sleep(d)
	synctest.Wait()
}

// only returns the one copy that there is.
func (c *clock) only(state cache.CopyStatus) cache.CopyState {
	c.Helper()
	all := c.cache.Copies()
	if len(all) != 1 || all[0].State != state {
		c.Fatalf("%d copies, want one that is %s: %+v", len(all), state, all)
	}
	return all[0]
}

func (c *clock) blobs(d digest.Digest) int { return c.up.Count("GET", "blob", d.String()) }
