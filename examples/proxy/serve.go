package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
)

const (
	headerTimeout = 10 * time.Second // a client that sends no whole header is gone
	idleTimeout   = 2 * time.Minute  // of a kept connection
	drainTimeout  = 30 * time.Second // running responses get this long at the end
	closeTimeout  = 10 * time.Second // then the cache gets this long to write down what is unfinished

	deliverTimeout = 5 * time.Second // then deliveries of events get this long
)

// keeper is the store and how it is closed.
type keeper struct {
	store.Store
	io.Closer
}

// openStore opens what the file names.
func (s *settings) openStore() (keeper, error) {
	if s.storeKind == "mem" {
		return keeper{&store.Mem{}, io.NopCloser(nil)}, nil
	}
	dir, err := store.OpenDir(s.storePath)
	if err != nil {
		return keeper{}, err
	}
	return keeper{dir, dir}, nil
}

// serve runs until ctx ends, then drains; at each signal of again it reads the
// file once more. Its one line on out says where it listens and what to try.
func serve(ctx context.Context, l *live, again <-chan os.Signal, out io.Writer) (err error) {
	s, log := l.now, l.log
	kept, err := s.openStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	warn(ctx, s.credentials, log)
	warnReceivers(ctx, s.receivers, log)

	// Before the cache and after it: no event finds the outbox closed. Without
	// receivers too: it then drops what waits for former ones, and says so.
	outbox := s.newOutbox(kept.Store, log)
	if err := outbox.Start(ctx); err != nil {
		return fmt.Errorf("starting the webhooks: %w", err)
	}
	defer endOutbox(outbox, log)

	c := &cache.Cache{
		Rules:    s.rules,
		Store:    kept.Store,
		Upstream: s.client,
		Host:     s.config.publicHost.text,
		Events:   s.events(outbox),
		Logger:   log,
		Observe:  func(_ *http.Request, o cache.Outcome) { observe(log, o) },
	}
	if err := c.Start(ctx); err != nil {
		return fmt.Errorf("starting the cache: %w", err)
	}
	defer func() { err = errors.Join(err, shutdown(c)) }()

	var group servers
	if err := group.listen(l, c); err != nil {
		return err
	}
	warnExposed(s.listen, log)
	fmt.Fprintln(out, "proxy:", s.greeting(group.address))
	go l.follow(ctx, again)
	return group.run(ctx, log)
}

// shutdown ends the cache, which writes down what is unfinished.
func shutdown(c *cache.Cache) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := c.Shutdown(ctx); err != nil {
		return fmt.Errorf("ending the cache: %w", err)
	}
	return nil
}

// servers is everything that listens.
type servers struct {
	address net.Addr // where /v2/ is
	running []running
}

// running is one server on its socket.
type running struct {
	server   *http.Server
	listener net.Listener
}

// listen opens every socket before anything is served, so that an address in
// use is an error at the start.
func (g *servers) listen(l *live, c http.Handler) error {
	s, log := l.now, l.log
	var secure *tls.Config
	if s.certificate != nil {
		secure = &tls.Config{GetCertificate: l.getCertificate, MinVersion: tls.VersionTLS12}
	}
	if err := g.add(s.listen, c, secure, log); err != nil {
		return err
	}
	g.address = g.running[0].listener.Addr()
	if s.admin == "" {
		return nil
	}
	if err := g.add(s.admin, admin(), nil, log); err != nil {
		return err
	}
	log.Info("serving /healthz", "address", g.running[1].listener.Addr())
	return nil
}

// add opens one socket; a nil secure means plain HTTP.
func (g *servers) add(address string, h http.Handler, secure *tls.Config, log *slog.Logger) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		for _, r := range g.running {
			r.listener.Close()
		}
		return err
	}
	// No WriteTimeout: a layer may take an hour on a slow link.
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		TLSConfig:         secure,
	}
	g.running = append(g.running, running{server, l})
	return nil
}

// run serves until ctx ends or a server fails, then drains.
func (g *servers) run(ctx context.Context, log *slog.Logger) error {
	failed := make(chan error, len(g.running))
	for _, r := range g.running {
		go func() { failed <- r.serve() }()
	}
	var err error
	select {
	case <-ctx.Done():
		log.Info("draining", "timeout", drainTimeout)
	case err = <-failed:
	}
	g.drain(log)
	return err
}

// drain lets running responses finish. Those that do not within the deadline
// are cut, which is no fault of ours: the client sees a broken connection and
// asks again.
func (g *servers) drain(log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	for _, r := range g.running { // clients first: /healthz answers to the end
		if err := r.server.Shutdown(ctx); err != nil {
			log.Warn("responses were cut", "error", err)
			r.server.Close()
		}
	}
}

// serve blocks until the server is shut down.
func (r running) serve() error {
	var err error
	if r.server.TLSConfig != nil {
		err = r.server.ServeTLS(r.listener, "", "")
	} else {
		err = r.server.Serve(r.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// admin answers what operators ask.
func admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "ok\n")
	})
	return mux
}

// observe writes one line for each request.
func observe(log *slog.Logger, o cache.Outcome) {
	attrs := []slog.Attr{
		slog.String("method", short(o.Method)),
		slog.String("kind", string(o.Access.Kind)),
		slog.String("repository", o.Access.Repository),
		slog.String("reference", short(o.Reference)),
		slog.String("rule", o.Rule),
		slog.Int("status", o.Status),
		slog.Int64("bytes", o.Bytes),
		slog.Duration("duration", o.Duration),
		slog.String("cache", o.CacheState),
	}
	if o.Err != nil {
		attrs = append(attrs, slog.Any("error", o.Err))
	}
	log.LogAttrs(context.Background(), level(o), "request", attrs...)
}

// short is what the log shows of what a client wrote. A digest fits, and the longest
// tag.
func short(text string) string {
	const most = 160
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}

// level is how much a request matters to operators. Clients ask for much that
// nobody has, such as the tags of signatures (sha256-….sig): a 404 is no warning.
func level(o cache.Outcome) slog.Level {
	switch o.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return slog.LevelWarn
	}
	refused := o.Status >= 400 && o.Status < 500
	// With status 0 the connection was ended before a header; an error after a
	// good status means that it was ended in the middle of the body.
	if o.Status == 0 || o.Status >= 500 || o.Err != nil && !refused {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}
