// Command embed builds a cache into a registry of one's own. The cache is the
// http.Handler in front: repositories that a rule covers it answers itself, once
// the registry's own token check has passed; everything else goes to Next, which
// is the registry.
//
//	go run ./examples/embed
//
// It runs a short demonstration against itself and ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

// run serves a registry with a cache in it and pulls from both.
func run(ctx context.Context, out io.Writer) (err error) {
	up, err := upstreamtest.Start()
	if err != nil {
		return err
	}
	defer up.Close()
	up.AddImage("team/app", "v1", upstreamtest.Layers(1, 64<<10))

	g := gate{token: "a-token-of-the-demonstration", challenge: `Bearer realm="https://registry.example.com/token",service="own"`}
	c, err := newRegistry(up, g)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Shutdown
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = errors.Join(err, server.Shutdown(ctx), c.Shutdown(ctx))
	}()
	return demonstrate(ctx, out, "http://"+l.Addr().String(), g.token)
}

// newRegistry is all that it takes to embed a cache.
func newRegistry(up *upstreamtest.Registry, g gate) (*cache.Cache, error) {
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/team/*", Target: "mirror/*"})
	if err != nil {
		return nil, err
	}
	return &cache.Cache{
		Rules:     rules,
		Store:     &store.Mem{},
		Upstream:  up.Client(), // a cache of real registries leaves this out
		Authorize: g.authorize,
		Next:      newOwn(g),
	}, nil
}

// pull is one request of the demonstration.
type pull struct {
	who, method, path, token string
	want                     int // status
}

// demonstrate pulls, prints what came back, and fails if it is not what should.
func demonstrate(ctx context.Context, out io.Writer, base, token string) error {
	for _, p := range []pull{
		{"anonymous, covered by a rule", "GET", "/v2/mirror/app/manifests/v1", "", http.StatusUnauthorized},
		{"anonymous, our own", "GET", "/v2/own/hello/manifests/latest", "", http.StatusUnauthorized},
		{"with a token, covered", "GET", "/v2/mirror/app/manifests/v1", token, http.StatusOK},
		{"with a token, our own", "GET", "/v2/own/hello/manifests/latest", token, http.StatusOK},
		{"with a token, a push", "PUT", "/v2/mirror/app/manifests/v1", token, http.StatusForbidden},
		{"with a token, the registry itself", "GET", "/v2/", token, http.StatusOK},
	} {
		resp, err := p.do(ctx, base)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "%-34s %s %-31s %d  %s\n", p.who, p.method, p.path, resp.StatusCode, comment(resp))
		if resp.StatusCode != p.want {
			return fmt.Errorf("%s: %s %s: status %d, want %d", p.who, p.method, p.path, resp.StatusCode, p.want)
		}
	}
	return nil
}

// do sends the request and reads the answer to its end.
func (p pull) do(ctx context.Context, base string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, p.method, base+p.path, nil)
	if err != nil {
		return nil, err
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, errors.Join(err, resp.Body.Close())
}

// comment says who answered, and how.
func comment(resp *http.Response) string {
	who := "the cache"
	if resp.Header.Get("Server") == "own-registry" {
		who = "our registry"
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		scheme, _, _ := strings.Cut(resp.Header.Get("WWW-Authenticate"), " ")
		return who + " asks for a token (" + scheme + ")"
	case resp.StatusCode >= 400:
		return who + " refuses"
	case resp.Header.Get("X-Azure-Origin") == "upstream":
		return who + ", from upstream"
	}
	return who
}
