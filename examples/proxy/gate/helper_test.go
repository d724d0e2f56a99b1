package gate_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// inMemory reaches a handler without a socket, so that a bubble of synctest has it in it.
type inMemory struct{ http.Handler }

func (m inMemory) RoundTrip(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	m.ServeHTTP(w, req)
	return w.Result(), nil
}

// cacheOf is a cache with the rule of cachetest, whose upstream has no network.
func cacheOf(t *testing.T, up *upstreamtest.Registry, in store.Store) *cache.Cache {
	rules, err := rule.NewSet(rule.Rule{Name: cachetest.Rule, Source: "registry.example.com/*", Target: cachetest.Prefix + "*"})
	if err != nil {
		t.Fatal(err)
	}
	c := &cache.Cache{Rules: rules, Store: in, Upstream: &upstream.Client{Transport: inMemory{up}}}
	t.Cleanup(func() {
		if err := c.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}
