package main

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// newCache returns a cache in memory, in front of a registry of the test.
func newCache(t *testing.T) (*cache.Cache, *upstreamtest.Registry) {
	up := upstreamtest.NewRegistry(t)
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/team/*", Target: "mirror/*"})
	if err != nil {
		t.Fatal(err)
	}
	c := &cache.Cache{Rules: rules, Store: &store.Mem{}, Upstream: up.Client()}
	t.Cleanup(func() {
		if err := c.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return c, up
}

func TestSummarize(t *testing.T) {
	c, up := newCache(t)
	img := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(3, 1<<10), "amd64", "arm64")
	want := Summary{Digest: img.Digest, Architecture: "arm64", Layers: 3, Bytes: 3 << 10}
	if got, err := Summarize(t.Context(), c, "mirror/app", "v1", "linux/arm64"); err != nil || got != want {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
}

func TestSummarizeWhenTheUpstreamRefuses(t *testing.T) {
	c, up := newCache(t)
	up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1<<10))
	up.Fail(upstreamtest.Fault{Kind: "manifest", Status: http.StatusTooManyRequests, RetryAfter: "7"})
	_, err := Summarize(t.Context(), c, "mirror/app", "v1", "linux/amd64")
	if e, ok := errors.AsType[*cache.Error](err); !ok || e.Status != 429 || e.RetryAfter < time.Second {
		t.Fatalf("%v, want 429 and when to try again", err)
	}
}
