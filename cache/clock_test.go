package cache_test

import (
	"context"
	"errors"
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
func (c *clock) only(state string) cache.CopyState {
	c.Helper()
	all := c.cache.Copies()
	if len(all) != 1 || all[0].State != state {
		c.Fatalf("%d copies, want one that is %s: %+v", len(all), state, all)
	}
	return all[0]
}

func (c *clock) blobs(d digest.Digest) int { return c.up.Count("GET", "blob", d.String()) }

// A copy that fails by itself is parked after a number of attempts, which is
// told, and tried again when somebody pulls it, or on demand.
func TestPoisonIsParked(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		layer := img.Layers[0].Digest
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: layer.String(), Flip: true, FlipAt: 5})
		c.manifest("v1")
		c.pass(0)
		if s := c.only("paused"); s.Attempts != 1 || s.Err == nil || s.Error == "" || !s.Next.After(time.Now()) {
			c.Errorf("after the first failure: %+v", s)
		}
		c.pass(time.Hour)
		s := c.only("parked")
		if s.Attempts != 4 || !s.Parked || len(c.parked) != 1 || c.parked[0].State != "parked" || c.parked[0].Digest != img.Digest {
			c.Errorf("parked: %+v, told %+v", s, c.parked)
		}
		before := c.blobs(layer)
		c.pass(24 * time.Hour)
		if n := c.blobs(layer); n != before {
			c.Errorf("a parked copy was tried %d times", n-before)
		}
		c.manifest("v1")
		c.manifest("v1")
		c.pass(0)
		if c.only("parked"); c.blobs(layer) == before {
			c.Error("a pull does not try a parked copy")
		}
		before = c.blobs(layer)
		c.pass(5 * time.Minute)
		c.manifest("v1")
		c.pass(0)
		if c.blobs(layer) != before {
			c.Error("pulls try a parked copy again and again")
		}
		if len(c.events) != 0 {
			c.Errorf("events of what is not complete: %+v", c.events)
		}
		c.up.Heal()
		if n, err := c.cache.Retry(c.Context(), "app/api", "v1"); n != 1 || err != nil {
			c.Errorf("Retry: %d, %v", n, err)
		}
		c.pass(0)
		if n := len(c.cache.Copies()); n != 0 || len(c.events) != 2 {
			c.Errorf("%d copies and %d events after Retry", n, len(c.events))
		}
	}, func(c *clock) { c.cache.Limits.Attempts = 4 })
}

// Trouble with the upstream's host is not the copy's fault: it is never parked
// for it, the pauses grow, and it ends well when the trouble does.
func TestAnOutageParksNothing(t *testing.T) {
	for name, fault := range map[string]upstreamtest.Fault{
		"503": {Kind: "blob", Status: 503}, "429": {Kind: "blob", Status: 429}, "cut": {Kind: "blob", Cut: 10},
	} {
		inBubble(t, func(c *clock) {
			img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			c.up.Fail(fault)
			c.manifest("v1")
			c.pass(6 * time.Hour)
			if s := c.only("paused"); s.Attempts != 0 || s.Error == "" {
				c.Errorf("%s: %+v", name, s)
			}
			before := c.up.Count("", "blob", "")
			c.pass(6 * time.Hour)
			if n := c.up.Count("", "blob", "") - before; n == 0 || n > 6*36 {
				c.Errorf("%s: %d requests in six hours", name, n)
			}
			c.up.Heal()
			c.pass(15 * time.Minute)
			if n := len(c.cache.Copies()); n != 0 || len(c.events) != 2 || c.blobs(img.Layers[0].Digest) == 0 {
				c.Errorf("%s: %d copies and %d events afterwards", name, n, len(c.events))
			}
		})
	}
}

// A host that says when to come back is asked by no copy before.
func TestRetryAfterHoldsAllCopiesOfAHost(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 503})
		for _, tag := range []string{"v1", "v2", "v3", "v4"} {
			c.up.AddImage("team/api", tag, [][]byte{[]byte(tag)})
			c.manifest(tag)
		}
		c.pass(time.Minute)
		c.up.Heal()
		c.up.Fail(upstreamtest.Fault{Status: 429, RetryAfter: "3600"})
		c.up.Reset()
		c.pass(59 * time.Minute)
		if n := c.up.Count("", "", ""); n == 0 || n > 2 { // the blobs of the first
			c.Errorf("%d requests before the time", n)
		}
		c.up.Heal()
		c.pass(time.Hour)
		if n := len(c.cache.Copies()); n != 0 || len(c.events) != 8 {
			c.Errorf("%d copies are left, %d events", n, len(c.events))
		}
	}, func(c *clock) { c.cache.Limits.Jobs = 1 })
}

// Attempts, the next try and the last error outlive the process, and a parked
// copy stays parked.
func TestFailuresOutliveTheProcess(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Flip: true, FlipAt: 1})
		c.manifest("v1")
		c.pass(5 * time.Second)
		was := c.only("paused")
		c.stop()
		before := c.up.Count("GET", "blob", "")
		c.start()
		c.pass(0)
		s := c.only("paused")
		if s.Attempts != was.Attempts || !s.Next.Equal(was.Next) || s.Error != was.Error || s.ID != was.ID || c.up.Count("GET", "blob", "") != before {
			c.Errorf("taken up as %+v\nwas %+v", s, was)
		}
		c.pass(3 * time.Hour)
		was = c.only("parked")
		c.stop()
		c.start()
		c.pass(time.Hour)
		if s := c.only("parked"); s.Attempts != was.Attempts || len(c.parked) != 1 {
			c.Errorf("%+v, told %d times", s, len(c.parked))
		}
		c.up.Heal()
		if n, err := c.cache.Retry(c.Context(), "", ""); n != 1 || err != nil {
			c.Errorf("Retry: %d, %v", n, err)
		}
		c.pass(0)
		x, err := c.cache.Explain(c.Context(), "app/api", img.Digest.String())
		if err != nil || !x.Stored || x.Copy != "" {
			c.Errorf("%+v, %v", x, err)
		}
	})
}

// What a manifest is not there for is asked for three times, not for ever.
func TestMissingBlobParksSoon(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Delete("team/api", img.Layers[0].Digest)
		c.manifest("v1")
		c.pass(time.Hour)
		if s := c.only("parked"); s.Attempts != 3 {
			c.Errorf("%+v", s)
		}
		x, err := c.cache.Explain(c.Context(), "app/api", "v1")
		if err != nil || x.Copy != "parked" || x.CopyError == "" {
			c.Errorf("%+v, %v", x, err)
		}
	})
}

// The parked make room for what is asked for now.
func TestParkedMakeRoom(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 404})
		for _, tag := range []string{"v1", "v2", "v3"} {
			c.up.AddImage("team/api", tag, [][]byte{[]byte(tag)})
			c.manifest(tag)
			c.pass(time.Hour)
		}
		all := c.cache.Copies()
		if len(all) != 2 || all[0].Tags[0].Tag != "v2" || c.cache.Stats().JobsDropped != 0 {
			c.Errorf("%+v", all)
		}
	}, func(c *clock) { c.cache.Limits.Queue = 2 })
}

var errSink = errors.New("the sink takes nothing")

// The event of a tag is not lost when the process ends between the tag and the
// event, also when the next pull comes before the copy is taken up; its id stays.
func TestEventBetweenTagAndCrash(t *testing.T) {
	inBubble(t, func(c *clock) {
		var refused []webhook.Event
		c.stop()
		c.start(func(c *clock) {
			c.cache.Events = webhook.SinkFunc(func(_ context.Context, ev webhook.Event) error {
				c.noting(func() { refused = append(refused, ev) })
				return errSink
			})
		})
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(0)
		if _, err := c.store.Tag(c.Context(), "app/api", "v1"); err != nil || len(refused) != 1 || refused[0].Target.Tag != "v1" {
			c.Fatalf("the tag is to be there and its event not: %v, %v", err, refused)
		}
		c.stop()
		c.start()
		c.manifest("v1") // asks later than the sighting that moved the tag
		c.pass(time.Hour)
		if len(c.events) != 2 || c.events[0].ID != refused[0].ID || c.events[0].Target.Tag != "v1" || c.events[1].Target.Digest != img.Digest.String() {
			c.Errorf("%+v; refused was %+v", c.events, refused)
		}
	})
}

// Nor when the tag has moved on before the copy is taken up.
func TestEventOfATagThatMovedOn(t *testing.T) {
	inBubble(t, func(c *clock) {
		refuses := true
		c.stop()
		sink := func(c *clock) {
			send := c.cache.Events
			c.cache.Events = webhook.SinkFunc(func(ctx context.Context, ev webhook.Event) error {
				if refuses {
					return errSink
				}
				return send.Send(ctx, ev)
			})
		}
		c.start(sink)
		first := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(0)
		c.stop()
		refuses = false
		c.start(sink)
		second := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.manifest("v1")
		c.pass(0)
		tag, err := c.store.Tag(c.Context(), "app/api", "v1")
		if err != nil || tag.Digest != second.Digest {
			c.Fatalf("%v, %v", tag.Digest, err)
		}
		c.pass(time.Hour)
		told := map[string]int{}
		for _, ev := range c.events {
			if ev.Target.Tag == "v1" {
				told[ev.Target.Digest]++
			}
		}
		if told[first.Digest.String()] != 1 || told[second.Digest.String()] != 1 || len(c.events) != 4 {
			c.Errorf("%v of %d events", told, len(c.events))
		}
		if tag, err := c.store.Tag(c.Context(), "app/api", "v1"); err != nil || tag.Digest != second.Digest {
			c.Errorf("the tag moved back: %v, %v", tag.Digest, err)
		}
	})
}

// A tag that is seen to stand for a manifest while its copy ends moves too.
func TestTagThatComesAtTheLastMoment(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Tag("team/api", "v2", img.Digest)
		c.stop()
		c.start(func(c *clock) {
			send := c.cache.Events
			c.cache.Events = webhook.SinkFunc(func(ctx context.Context, ev webhook.Event) error {
				if ev.Target.Tag == "" { // the last of the copy
					c.manifest("v2")
				}
				return send.Send(ctx, ev)
			})
		})
		c.manifest("v1")
		c.pass(0)
		if tag, err := c.store.Tag(c.Context(), "app/api", "v2"); err != nil || tag.Digest != img.Digest {
			c.Errorf("v2: %v, %v", tag.Digest, err)
		}
		var tags []string
		for _, ev := range c.events {
			if ev.Target.Tag != "" {
				tags = append(tags, ev.Target.Tag)
			}
		}
		if len(tags) != 2 || tags[0] != "v1" || tags[1] != "v2" || len(c.cache.Copies()) != 0 {
			c.Errorf("events for %v, copies %+v", tags, c.cache.Copies())
		}
	})
}

// tagHook calls before before each tag is set.
type tagHook struct {
	*store.Mem
	before func()
}

func (h *tagHook) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	h.before()
	return h.Mem.SetTag(ctx, repo, tag, t)
}

// A tag that is seen again while it moves has one event.
func TestTagThatIsSeenAgainWhileItMoves(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.stop()
		hook := &tagHook{Mem: &store.Mem{}}
		hook.before = func() { hook.before = func() {}; c.manifest("v1") }
		c.store = hook
		c.start()
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(0)
		if len(c.events) != 2 || c.up.Count("GET", "manifest", "v1") != 2 || len(c.cache.Copies()) != 0 {
			c.Errorf("%d GETs, events %+v", c.up.Count("GET", "manifest", "v1"), c.events)
		}
	})
}
