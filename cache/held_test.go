package cache_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestHeldIsShown: a digest that is held is told once, listed and explained, and the
// former image is served meanwhile; a first pull is refused, and the text says until when.
func TestHeldIsShown(t *testing.T) {
	var asked, told atomic.Int64
	inBubble(t, func(c *clock) {
		until := time.Now().Add(72 * time.Hour).UTC().Format(time.RFC3339)
		first := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.wantPulled("app/api/manifests/v1", first)
		second := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.up.AddImage("team/api", "new", upstreamtest.Layers(1, 3000))
		for range 5 {
			w := c.response("GET", "app/api/manifests/v1")
			if w.Header().Get("Docker-Content-Digest") != first.Digest.String() || w.Header().Get("Cache-Status") != "pullthrough; fwd=request; fwd-status=200; detail=held" {
				t.Errorf("%d %v", w.Code, w.Header())
			}
			w = c.response("GET", "app/api/manifests/new")
			if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "held until "+until+": too new") || w.Header().Get("Cache-Status") != "pullthrough; fwd=miss; fwd-status=200; detail=held" {
				t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
			}
			c.pass(time.Minute)
		}
		if asked.Load() != 2 || told.Load() != 2 {
			t.Errorf("Admit was asked %d times and Held called %d times, want twice: once for each tag", asked.Load(), told.Load())
		}
		held := c.cache.HeldTags()
		if len(held) != 2 || held[0].Tag != "new" || held[0].Former != "" || held[1].Tag != "v1" || held[1].Digest != second.Digest || held[1].Former != first.Digest ||
			held[1].Repository != "app/api" || held[1].Until.UTC().Format(time.RFC3339) != until || held[1].Err == nil || time.Since(held[1].Since) != 5*time.Minute {
			t.Errorf("%+v", held)
		}
		x, err := c.cache.Explain(t.Context(), "app/api", "v1")
		if err != nil || x.Held != second.Digest || !x.HeldUntil.Equal(held[1].Until) || !strings.Contains(x.Text, "the former image") || !strings.Contains(x.Text, until) {
			t.Errorf("%+v, %v", x, err)
		}
		if x, _ = c.cache.Explain(t.Context(), "app/api", "new"); !strings.Contains(x.Text, "a pull is refused") || strings.Contains(x.Text, "streams") {
			t.Error(x.Text)
		}
		c.pass(73 * time.Hour)
		if x, _ = c.cache.Explain(t.Context(), "app/api", "v1"); !strings.Contains(x.Text, "asks again") {
			t.Error(x.Text)
		}
		c.wantPulled("app/api/manifests/v1", second)
		if held := c.cache.HeldTags(); len(held) != 1 {
			t.Errorf("%+v", held)
		}
	}, func(c *clock) {
		begun := time.Now()
		c.cache.Admit = func(_ context.Context, n cache.Candidate) error {
			if n.Former == "" && n.Tag == "v1" || time.Since(begun) >= 72*time.Hour {
				return nil
			}
			asked.Add(1)
			return &cache.Hold{Until: begun.Add(72 * time.Hour), Reason: "too new"}
		}
		c.cache.Held = func(n cache.Candidate, err error) {
			told.Add(1)
			if h, ok := errors.AsType[*cache.Hold](err); !ok || h.Reason != "too new" || n.Repository != "app/api" {
				t.Errorf("%+v, %v", n, err)
			}
			c.cache.HeldTags() // it may call back
		}
	})
}

// TestTagMovesBackFromWhatIsHeld: then nothing is held.
func TestTagMovesBackFromWhatIsHeld(t *testing.T) {
	var told atomic.Int64
	var says atomic.Value
	says.Store("no")
	inBubble(t, func(c *clock) {
		first := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.wantPulled("app/api/manifests/v1", first)
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		for range 3 {
			c.wantPulled("app/api/manifests/v1", first)
		}
		if len(c.cache.HeldTags()) != 1 {
			t.Fatal(c.cache.HeldTags())
		}
		says.Store("never")
		c.wantPulled("app/api/manifests/v1", first)
		if told.Load() != 2 {
			t.Errorf("Held was called %d times, want once for each reason", told.Load())
		}
		c.up.Tag("team/api", "v1", first.Digest)
		c.wantPulled("app/api/manifests/v1", first)
		if held := c.cache.HeldTags(); len(held) != 0 {
			t.Errorf("%+v", held)
		}
	}, func(c *clock) {
		c.cache.Admit = func(_ context.Context, n cache.Candidate) error {
			if n.Former == "" {
				return nil
			}
			return errors.New(says.Load().(string))
		}
		c.cache.Held = func(cache.Candidate, error) { told.Add(1) }
	})
}

// TestReconsider: what Admit decides by may change before a hold ends.
func TestReconsider(t *testing.T) {
	var open atomic.Bool
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		for _, about := range [][3]string{{"app/api", "v1"}, {"app/api", ""}, {"", ""}} {
			open.Store(false)
			if w := c.response("GET", "app/api/manifests/v1"); w.Code != http.StatusForbidden {
				t.Fatal(w.Code)
			}
			open.Store(true)
			for _, other := range [][2]string{{"app/api", "v2"}, {"app/other", ""}} {
				if n, err := c.cache.Reconsider(t.Context(), other[0], other[1]); n != 0 || err != nil {
					t.Errorf("%v: %d, %v", other, n, err)
				}
			}
			if w := c.response("GET", "app/api/manifests/v1"); w.Code != http.StatusForbidden {
				t.Errorf("Admit was asked before the hold ended: %d", w.Code)
			}
			if n, err := c.cache.Reconsider(t.Context(), about[0], about[1]); n != 1 || err != nil {
				t.Errorf("%v: %d, %v", about, n, err)
			}
			c.wantPulled("app/api/manifests/v1", img)
			if err := c.cache.Delete(t.Context(), "app/api", "v1"); err != nil {
				t.Fatal(err)
			}
		}
	}, func(c *clock) {
		c.cache.Admit = func(context.Context, cache.Candidate) error {
			if open.Load() {
				return nil
			}
			return &cache.Hold{Until: time.Now().Add(time.Hour)}
		}
	})
}

// TestSlowAdmitIsNotTheUpstreams: an embedder that takes its time delays the pulls of the
// tag as long as a slow upstream would, takes no slot, and makes no other tag stale.
func TestSlowAdmitIsNotTheUpstreams(t *testing.T) {
	inBubble(t, func(c *clock) {
		first, other := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000)), c.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 1001))
		c.wantPulled("app/api/manifests/v1", first)
		c.wantPulled("app/api/manifests/v2", other)
		second := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.up.AddImage("team/api", "v3", upstreamtest.Layers(1, 3000))
		begun := time.Now()
		w := c.response("GET", "app/api/manifests/v1")
		if w.Header().Get("Docker-Content-Digest") != first.Digest.String() || !strings.HasSuffix(w.Header().Get("Cache-Status"), "detail=held") || time.Since(begun) > 3*time.Second {
			t.Errorf("after %v: %d %v", time.Since(begun), w.Code, w.Header())
		}
		if w = c.response("GET", "app/api/manifests/v2"); w.Header().Get("Cache-Status") != "pullthrough; fwd=request; fwd-status=200; detail=unchanged" {
			t.Errorf("another tag: %d %v", w.Code, w.Header())
		}
		if w = c.response("GET", "app/api/manifests/v3"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "being decided") {
			t.Errorf("nothing stored: %d %v %s", w.Code, w.Header(), w.Body)
		}
		c.pass(time.Minute)
		c.wantPulled("app/api/manifests/v1", second)
	}, func(c *clock) {
		c.cache.Limits.Requests, c.cache.Limits.RequestsPerHost = 1, 1
		c.cache.Admit = func(_ context.Context, n cache.Candidate) error {
			if n.Former != "" || n.Tag == "v3" {
				time.Sleep(30 * time.Second)
			}
			return nil
		}
	})
}
