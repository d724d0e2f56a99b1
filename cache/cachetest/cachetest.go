// Package cachetest gives tests a cache and its upstream in one line.
//
//	c, up := cachetest.New(t)
//	img := up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
//	desc, _, err := c.Manifest(t.Context(), "hub/team/api", "v1")
//
// The upstream is a registry on loopback; see package upstreamtest for its images and
// faults.
package cachetest

import (
	"context"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// Rule is the name of the rule of New, which maps Prefix to every repository of the
// upstream: hub/team/api is team/api there.
const (
	Rule   = "cachetest"
	Prefix = "hub/"
)

// shutdownTime is how long the end of a test waits for the cache.
const shutdownTime = 30 * time.Second

// New returns a cache with a store in memory, and its empty upstream. Fields of the
// cache may be set before its first use. Both end with the test, which fails if the
// cache does not end within 30 seconds.
func New(t testing.TB) (*cache.Cache, *upstreamtest.Registry) {
	t.Helper()
	up := upstreamtest.NewRegistry(t)
	rules, err := rule.NewSet(rule.Rule{Name: Rule, Source: up.Host() + "/*", Target: Prefix + "*"})
	if err != nil {
		t.Fatalf("cachetest: %v", err)
	}
	c := &cache.Cache{Rules: rules, Store: &store.Mem{}, Upstream: up.Client()}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		if err := c.Shutdown(ctx); err != nil {
			t.Errorf("cachetest: the cache does not end: %v", err)
		}
	})
	return c, up
}
