package cache_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// exampleCache returns a cache in memory whose repositories app/* stand for team/* of a
// registry, and that registry, which has the image team/api:v1. end ends both.
func exampleCache() (c *cache.Cache, up *upstreamtest.Registry, end func()) {
	up, err := upstreamtest.Start()
	if err != nil {
		log.Fatal(err)
	}
	up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/team/*", Target: "app/*"})
	if err != nil {
		log.Fatal(err)
	}
	c = &cache.Cache{Rules: rules, Store: &store.Mem{}, Upstream: up.Client()}
	c.Limits.StaleTimeout = time.Minute // a machine that is busy changes no output
	return c, up, func() {
		_ = c.Shutdown(context.Background())
		up.Close()
	}
}

// printGet prints the status with which a handler answers a GET, and returns the header.
func printGet(h http.Handler, path, user, password string) http.Header {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Code, path)
	return w.Header()
}
