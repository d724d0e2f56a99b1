package cache_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// A cache is an http.Handler, and has the same as Go methods.
func Example() {
	up, err := upstreamtest.Start() // stands for a registry
	if err != nil {
		log.Fatal(err)
	}
	defer up.Close()
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))

	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/team/*", Target: "app/*"})
	if err != nil {
		log.Fatal(err)
	}
	c := &cache.Cache{Rules: rules, Store: &store.Mem{}, Upstream: up.Client()}
	defer func() { _ = c.Shutdown(context.Background()) }()
	server := httptest.NewServer(c)
	defer server.Close()

	resp, err := http.Get(server.URL + "/v2/app/api/manifests/v1")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body) == string(img.Manifest), err)
	// Output: 200 true <nil>
}
