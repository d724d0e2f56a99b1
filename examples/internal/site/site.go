// Package site runs the caches of the examples' stories: each is an HTTP server of its own
// on loopback, with a store in a folder of its own, and counts what its clients asked for.
package site

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// patience is how long the end of a site may take, and how long its cache waits for others.
const patience = time.Minute

// Site is a cache with its server and its store. Make one with [Open].
type Site struct {
	Name    string
	Address string // host:port
	Dir     *store.Dir
	Cache   *cache.Cache // nil before Serve
	// Outbox delivers the events of the cache. If it is not nil, Close ends it after the
	// cache and before the store.
	Outbox *webhook.Outbox
	// Client pulls from this site.
	Client *puller.Client

	listener net.Listener
	up       *upstream.Client
	server   *http.Server // nil before Serve
	served   chan error
	open     atomic.Int64 // requests under way

	mu    sync.Mutex
	asked Asked
}

// Asked counts requests that a site answered.
type Asked struct {
	Heads, Manifests, Blobs int   // with content as response
	Refused                 int   // with an error as response
	Bytes                   int64 // of blobs that were sent
}

// Open takes a free port of loopback, and opens a store in a new folder below parent. Nothing
// is answered before Serve, so sites can name one another.
func Open(name, parent string) (*Site, error) {
	folder := filepath.Join(parent, name)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	dir, err := store.OpenDir(folder)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	address := l.Addr().String()
	return &Site{Name: name, Address: address, Dir: dir, Client: puller.New("http://" + address), listener: l}, nil
}

// Serve serves a cache. It sets the cache's Store and Upstream, which reaches the hosts above
// by plain HTTP, and the Observe that counts.
func (s *Site) Serve(c *cache.Cache, above ...string) error {
	hosts := map[string]upstream.Host{}
	for _, host := range above {
		hosts[host] = upstream.Host{PlainHTTP: true}
	}
	s.up = &upstream.Client{Hosts: hosts}
	c.Store, c.Upstream, c.Observe = s.Dir, s.up, s.observe
	// On a busy machine the figures of a story must be right too: a tag check or a download
	// may be slow, and is not given up, nor asked for over a second connection.
	c.Limits.StaleTimeout, c.Limits.AnswerTimeout, c.Limits.IdleTimeout = patience, patience, patience
	c.Limits.Segments, c.Limits.LeastRate = 1, -1
	s.Cache = c
	if s.Outbox != nil {
		if err := s.Outbox.Start(context.Background()); err != nil {
			return err
		}
		c.Events = s.Outbox
	}
	if err := c.Start(context.Background()); err != nil {
		return err
	}
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second}
	s.served = make(chan error, 1)
	go func() { s.served <- s.server.Serve(s.listener) }()
	return nil
}

func (s *Site) serve(w http.ResponseWriter, r *http.Request) {
	s.open.Add(1)
	defer s.open.Add(-1)
	s.Cache.ServeHTTP(w, r)
}

// observe counts a request.
func (s *Site) observe(_ *http.Request, o cache.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case o.Status != http.StatusOK:
		s.asked.Refused++
	case o.Method == http.MethodHead:
		s.asked.Heads++
	case o.Access.Kind == cache.AccessManifest:
		s.asked.Manifests++
	case o.Access.Kind == cache.AccessBlob:
		s.asked.Blobs++
		s.asked.Bytes += o.Bytes
	}
}

// Asked returns what was asked since the last Reset.
func (s *Site) Asked() Asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Reset begins to count anew.
func (s *Site) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = Asked{}
}

// Settle waits until no request, download, copy or delivery is under way, so that the figures
// are final. A copy that waits until a client pulls a platform is not under way.
func (s *Site) Settle(ctx context.Context) error {
	busy := func(c cache.CopyState) bool { return c.State == cache.CopyQueued || c.State == cache.CopyRunning }
	for s.open.Load() > 0 || s.Cache.Stats().Downloads > 0 || slices.ContainsFunc(s.Cache.Copies(), busy) || s.delivers() {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: something is still under way: %w", s.Name, ctx.Err())
		}
	}
	return nil
}

// delivers reports whether events wait to be delivered.
func (s *Site) delivers() bool {
	return s.Outbox != nil && slices.ContainsFunc(s.Outbox.States(), func(r webhook.ReceiverState) bool { return r.Queued > 0 })
}

// Close ends the server, the cache, the outbox and the store, in this order.
func (s *Site) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.Client.HTTP.CloseIdleConnections()
	var err error
	if s.server != nil {
		err = s.server.Shutdown(ctx)
		if e := <-s.served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	} else {
		err = s.listener.Close()
	}
	if s.Cache != nil {
		err = errors.Join(err, s.Cache.Shutdown(ctx))
		s.up.CloseIdleConnections()
	}
	if s.Outbox != nil {
		err = errors.Join(err, s.Outbox.Shutdown(ctx))
	}
	return errors.Join(err, s.Dir.Close())
}
