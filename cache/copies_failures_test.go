package cache_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// A copy that fails by itself is parked after a number of attempts, which is
// told, and tried again when somebody pulls it, or on demand.
func TestPoisonIsParked(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		layer := img.Layers[0].Digest
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: layer.String(), Flip: true, FlipAt: 5})
		c.manifest("v1")
		c.pass(0)
		if s := c.only("paused"); s.Attempts != 1 || s.Err == nil || !s.Next.After(time.Now()) {
			c.Errorf("after the first failure: %+v", s)
		}
		c.pass(time.Hour)
		s := c.only("parked")
		if s.Attempts != 4 || s.State != cache.CopyParked || len(c.parked) != 1 || c.parked[0].State != "parked" || c.parked[0].Digest != img.Digest {
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
			if s := c.only("paused"); s.Attempts != 0 || s.Err == nil {
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
		if s.Attempts != was.Attempts || !s.Next.Equal(was.Next) || s.Err.Error() != was.Err.Error() || s.ID != was.ID || c.up.Count("GET", "blob", "") != before {
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
		if err != nil || !x.Stored || x.Copy != nil {
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
		if err != nil || x.Copy == nil || x.Copy.State != cache.CopyParked || x.Copy.Err == nil {
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
		if len(all) != 2 || all[0].Tags[0] != "v2" || c.cache.Stats().JobsDropped != 0 {
			c.Errorf("%+v", all)
		}
	}, func(c *clock) { c.cache.Limits.MaxJobs = 2 })
}

// A handler of logs, and who is told of parked copies, may ask the cache.
func TestLogsAndParkedMayCallBack(t *testing.T) {
	inBubble(t, func(c *clock) {
		lines := 0
		c.stop()
		c.start(func(c *clock) {
			ask := func() { c.cache.Copies(); c.cache.Stats() }
			c.cache.Limits.MaxJobs = 1
			c.cache.Logger = slog.New(callbackHandler{slog.DiscardHandler, func() { c.noting(func() { lines++ }); ask() }})
			c.cache.Parked = func(cache.CopyState) { ask() }
		})
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Flip: true})
		for _, tag := range []string{"v1", "v2", "v3"} { // v2 makes v1's place, v3 finds none
			c.up.AddImage("team/api", tag, [][]byte{[]byte(tag)})
			c.manifest(tag)
			if tag == "v1" {
				c.pass(24 * time.Hour)
			}
		}
		c.pass(time.Hour)
		if c.cache.Stats().JobsDropped != 1 || lines < 5 {
			c.Errorf("%d copies were dropped, %d lines", c.cache.Stats().JobsDropped, lines)
		}
	})
}

// callbackHandler calls back for each record.
type callbackHandler struct {
	slog.Handler
	call func()
}

func (h callbackHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h callbackHandler) Handle(context.Context, slog.Record) error { h.call(); return nil }
