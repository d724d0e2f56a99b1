// Command embed builds a cache into an existing registry. The cache is the http.Handler in
// front: it serves repositories that a rule covers itself, after the registry's own token
// check; all other requests go to its Next, which is the registry behind the same check.
//
//	go run ./examples/embed
//
// It runs a short demonstration against itself and ends. With -listen it serves
// until Ctrl-C, for clients such as crane:
//
//	go run ./examples/embed -listen 127.0.0.1:5000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func main() {
	listen := flag.String("listen", "", "serve on this address until Ctrl-C, instead of the demonstration")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, *listen)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

// run serves a registry with a cache in it until ctx ends. If listen is empty, it runs the
// demonstration instead.
func run(ctx context.Context, out io.Writer, listen string) (err error) {
	up, err := upstreamtest.Start()
	if err != nil {
		return err
	}
	defer up.Close()
	up.AddImage("team/app", "v1", upstreamtest.Layers(1, 64<<10))

	address := listen
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	base := "http://" + l.Addr().String()
	g := gate{user: "demo", password: "demo", token: "a-token-of-the-demonstration", realm: base + "/token"}
	c, err := newRegistry(up, g)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", g.issue)
	mux.Handle("/v2/", c)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Shutdown
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = errors.Join(err, server.Shutdown(ctx), c.Shutdown(ctx))
	}()
	if listen == "" {
		return demonstrate(ctx, out, base, g.token)
	}
	host := l.Addr().String()
	_, _ = fmt.Fprintf(out, "embed: listening on %s\ntry:\n  crane auth login --insecure -u demo -p demo %s\n  crane manifest --insecure %s/mirror/app:v1\n  crane manifest --insecure %s/own/hello:latest\n", base, host, host, host)
	<-ctx.Done()
	return nil
}

// newRegistry is all that it takes to embed a cache. Both the cache and the registry behind
// it have the same gate.
func newRegistry(up *upstreamtest.Registry, g gate) (*cache.Cache, error) {
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/team/*", Target: "mirror/*"})
	if err != nil {
		return nil, err
	}
	return &cache.Cache{
		Rules:     rules,
		Store:     &store.Mem{},
		Upstream:  up.Client(), // not needed for real registries
		Authorize: g.authorize,
		Next:      cache.Guard(g.authorize, newOwn()),
	}, nil
}
