package e2e

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// recorded is a sink that keeps events.
type recorded struct {
	mu     sync.Mutex
	events []webhook.Event
}

// Send keeps an event.
func (r *recorded) Send(_ context.Context, ev webhook.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, ev)
	return nil
}

// all returns the events so far.
func (r *recorded) all() []webhook.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// TestEvents pulls one platform through a cache in this process. There are events for the
// index with and without its tag, and for the platform that was pulled; a pull from the
// store gives none.
func TestEvents(t *testing.T) {
	crane, s := tool(t, "crane"), newSource(t)
	sink := &recorded{}
	host := startCache(t, s, sink)
	pull := func() {
		cranePull(t, crane, host+"/"+localRepository+":"+tag, s.image)
	}
	pull()
	want := []string{
		s.image.platforms["amd64"].manifest.Digest.String(),
		s.image.index.Digest.String(),
		s.image.index.Digest.String() + " " + tag,
	}
	slices.Sort(want)
	deadline := time.Now().Add(30 * time.Second)
	for len(sink.all()) < len(want) && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	pull() // from the store
	wantEvents(t, sink.all(), want)
}

// startCache serves a cache with a sink until the test ends, and returns its
// host.
func startCache(t *testing.T, s *source, sink webhook.Sink) string {
	t.Helper()
	rules, err := rule.NewSet(rule.Rule{Name: "source", Source: s.wire.host + "/*", Target: "hub/*"})
	if err != nil {
		t.Fatal(err)
	}
	c := &cache.Cache{
		Rules:    rules,
		Store:    &store.Mem{},
		Upstream: &upstream.Client{Hosts: map[string]upstream.Host{s.wire.host: {PlainHTTP: true}}},
		Events:   sink,
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c)
	t.Cleanup(func() {
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Shutdown(ctx); err != nil {
			t.Errorf("ending the cache: %v", err)
		}
	})
	return strings.TrimPrefix(server.URL, "http://")
}

// wantEvents compares digests and tags of events, which come in no order, and checks the
// fields that are equal in all of them.
func wantEvents(t *testing.T, events []webhook.Event, want []string) {
	t.Helper()
	var got []string
	ids := map[string]bool{}
	for _, ev := range events {
		got = append(got, strings.TrimSpace(ev.Target.Digest+" "+ev.Target.Tag))
		if ev.Action != webhook.ActionPush || ev.Target.Repository != localRepository {
			t.Errorf("an event tells of %s in %q, want %s in %q", ev.Action, ev.Target.Repository, webhook.ActionPush, localRepository)
		}
		if ev.ID == "" || ids[ev.ID] {
			t.Errorf("the ID %q is empty or not unique", ev.ID)
		}
		ids[ev.ID] = true
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("events:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
