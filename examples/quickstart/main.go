// Command quickstart shows in a few seconds what a pull-through cache does. It needs no
// network: a registry on loopback takes the place of the upstream, a cache stands in front
// of it, and the clients send plain HTTP requests.
//
//	go run ./examples/quickstart
//
// The upstream or the client counted every figure that the program prints. If one of them
// is not as expected, the program ends with status 1. After the story, the cache serves
// clients of your own until Ctrl-C; with -once the program ends with the story.
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
	"strings"
	"syscall"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

func main() {
	once := flag.Bool("once", false, "end after the story instead of serving on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *once)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case interrupted: // the story did not fail, it only did not end
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "quickstart:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

// run sets the stage up, tells the story and, unless once, serves until ctx ends. It leaves
// nothing behind in any case.
func run(ctx context.Context, out io.Writer, once bool) (err error) {
	up, err := upstreamtest.Start()
	if err != nil {
		return err
	}
	defer up.Close()
	folder, err := os.MkdirTemp("", "pullthrough-quickstart-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	dir, err := store.OpenDir(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()

	r := &receiver{events: make(chan webhook.Event, 16)}
	if err := r.start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.end()) }()
	outbox := r.outbox(dir)
	c, err := newCache(up, dir, outbox)
	if err != nil {
		return err
	}
	address, end, err := serve(c, outbox)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()

	s := newStory(out, up, c, address, r)
	if err := s.tell(ctx); err != nil || once {
		return err
	}
	return s.serveOn(ctx)
}

// newCache makes a cache with one rule in front of the upstream.
func newCache(up *upstreamtest.Registry, dir *store.Dir, events webhook.Sink) (*cache.Cache, error) {
	rules, err := rule.NewSet(rule.Rule{Name: "demo", Source: up.Host() + "/team/*", Target: "mirror/*"})
	if err != nil {
		return nil, err
	}
	// On a busy machine the figures must be right too: a tag check or a download may be slow,
	// and is not given up, nor asked for over a second connection.
	limits := cache.Limits{StaleTimeout: patience, AnswerTimeout: patience, IdleTimeout: patience, Segments: 1, LeastRate: -1}
	return &cache.Cache{Rules: rules, Store: dir, Upstream: up.Client(), Events: events, Limits: limits}, nil
}

// serve serves the cache on a free port of loopback. The function end ends the server, then
// the cache and then the outbox, so that clients get their responses, and receivers get the
// events.
func serve(c *cache.Cache, outbox *webhook.Outbox) (address string, end func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	end = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := errors.Join(server.Shutdown(ctx), c.Shutdown(ctx), outbox.Shutdown(ctx))
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	}
	return l.Addr().String(), end, nil
}
