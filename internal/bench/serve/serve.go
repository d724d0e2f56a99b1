// Package serve has the servers that are a part of this program: the cache, and the bare
// server beside it. Each runs in a process of its own.
package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/internal/bench/registry"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// Role returns the server that args, those of a program, ask for, or nil.
func Role(args []string) func() error {
	if len(args) < 2 {
		return nil
	}
	switch args[1] {
	case "serve-cache":
		return func() error { return Cache(args[2:]) }
	case "serve-bare":
		return func() error { return Bare(args[2:]) }
	}
	return nil
}

// Idle is the path whose GET is answered when the cache has nothing left to do.
const Idle = "/idle"

// Cache serves a cache on a [store.Dir] until SIGTERM, as examples/proxy does, but with
// no log: the other servers have none either.
func Cache(args []string) error {
	debug.SetGCPercent(200) // as the proxy does
	flags := flag.NewFlagSet("serve-cache", flag.ContinueOnError)
	listen := flags.String("listen", "", "`ADDRESS`")
	from := flags.String("upstream", "", "`HOST` of the registry")
	folder := flags.String("store", "", "`FOLDER` of the store")
	freshness := flags.Duration("freshness", 0, "how long a tag is trusted")
	if err := flags.Parse(args); err != nil {
		return err
	}
	rules, err := rule.NewSet(rule.Rule{Name: "bench", Source: *from + "/b/*", Target: "b/*"})
	if err != nil {
		return err
	}
	dir, err := store.OpenDir(*folder)
	if err != nil {
		return err
	}
	c := &cache.Cache{
		Rules:     rules,
		Store:     dir,
		Upstream:  &upstream.Client{Hosts: map[string]upstream.Host{*from: {PlainHTTP: true}}},
		Freshness: *freshness,
	}
	if err := c.Start(context.Background()); err != nil {
		return errors.Join(err, dir.Close())
	}
	served := serve(*listen, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != Idle {
			c.ServeHTTP(w, req)
		} else if err := c.Idle(req.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	}))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(served, c.Shutdown(ctx), dir.Close())
}

// Bare serves the content of a file of [registry.Catalog] until SIGTERM. If it is told
// whom to ask, it sends a HEAD there at each pull of a manifest by tag, and does nothing
// with the answer.
func Bare(args []string) error {
	flags := flag.NewFlagSet("serve-bare", flag.ContinueOnError)
	listen := flags.String("listen", "", "`ADDRESS`")
	file := flags.String("catalog", "", "`FILE` of the content")
	ask := flags.String("ask", "", "`HOST` of the registry")
	if err := flags.Parse(args); err != nil {
		return err
	}
	catalog, err := registry.Load(*file)
	if err != nil {
		return err
	}
	h := registry.Handler(catalog)
	if *ask != "" {
		h = asking(h, "http://"+*ask)
	}
	return serve(*listen, h)
}

// serve serves until SIGTERM. Responses that run then are cut off: their clients have
// left, or are slow.
func serve(address string, h http.Handler) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Minute}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
