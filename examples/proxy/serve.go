package main

import (
	"cmp"
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
	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
	"github.com/pullthrough/pullthrough/store"
)

const (
	headerTimeout = 10 * time.Second // for the header of a request
	idleTimeout   = 2 * time.Minute  // of a kept connection
	drainTimeout  = 30 * time.Second // for running responses at the end, if the file does not say it
	closeTimeout  = 10 * time.Second // then for the cache to record unfinished copies

	deliverTimeout = 5 * time.Second // then for deliveries of events
)

// serve serves until ctx ends, and then drains. At each signal of hangups it reads the file
// again. It prints one line to out: the address and a command to try.
func serve(ctx context.Context, l *live, hangups <-chan os.Signal, out io.Writer) (err error) {
	s, log := l.current, l.log
	kept, err := s.openStore(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	warn(ctx, s.credentials, log)
	warnReceivers(ctx, s.receivers, log)

	// The outbox starts before the cache and ends after it, so that it is open for every
	// event. Without receivers it runs too, and drops the events that wait for former ones.
	outbox := s.newOutbox(kept.Store, log)
	if err := outbox.Start(ctx); err != nil {
		return fmt.Errorf("starting the webhooks: %w", err)
	}
	defer endOutbox(outbox, log)

	l.events = s.events(outbox)
	defer l.startGates(ctx, kept.Store)()
	if l.replica, err = s.newReplica(log); err != nil {
		return err
	}
	defer l.replica.close() // when the cache has ended: no deletion is under way then
	c := l.newCache(kept.Store)
	l.reconsider = c.Reconsider
	if err := c.Start(ctx); err != nil {
		return fmt.Errorf("starting the cache: %w", err)
	}
	defer func() { err = errors.Join(err, shutdown(c)) }()
	defer l.record(ctx, c, kept.Store)()
	if err := l.open(ctx, c); err != nil {
		return err
	}
	operate, status := l.operators(ctx, c, kept.Store, outbox)
	defer func() { err = errors.Join(err, operate.Close()) }()
	var group servers
	if err := group.listen(l, l.gate.Handler(l.rates.handler(c)), operate, l.replica.server(c)); err != nil {
		return err
	}
	status.Address = s.clientAddress(group.address)
	s.warnExposed(log)
	s.warnAdmin(ctx, log)
	fmt.Fprintln(out, "proxy:", s.greeting(group.address))
	l.prefetch.Prefetch, l.prefetch.Log = c.Prefetch, log
	l.prefetch.Set(s.prefetch)
	defer l.prefetch.Close()
	context.AfterFunc(ctx, l.prefetch.Close)
	go l.follow(ctx, hangups)
	return group.run(ctx, s.drain(), log)
}

// newCache returns the cache, which has not started.
func (l *live) newCache(in store.Store) *cache.Cache {
	s, log := l.current, l.log
	c := &cache.Cache{
		Rules:    s.rules,
		Store:    in,
		ID:       s.config.id.text,
		Upstream: l.replica.opener(l.opener(s.client, log)),
		Limits:   cache.Limits{LeastRate: -1}, // bandwidth.Upstream has one that leaves out what it holds back itself
		Host:     s.config.publicHost.text,
		Events:   l.events,
		Logger:   log,
		Eviction: s.eviction(),
		Observe:  l.observe,

		Authorize: l.gate.Authorize,

		Admit: l.gates.Admit, Held: l.held, KeepBudget: s.keepBudget(),
	}
	l.replica.join(c)
	return c
}

// drain is how long running responses have at the end.
func (s *settings) drain() time.Duration {
	if s.config.drain.line == 0 {
		return drainTimeout
	}
	return s.config.drainTime
}

// shutdown ends the cache, which records unfinished copies.
func shutdown(c *cache.Cache) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := c.Shutdown(ctx); err != nil {
		return fmt.Errorf("ending the cache: %w", err)
	}
	return nil
}

// servers holds all servers that listen.
type servers struct {
	address net.Addr // of /v2/
	running []running
	leave   func() // tells the other replicas that this one ends
}

// running is one server on its socket.
type running struct {
	server   *http.Server
	listener net.Listener
	wait     func(context.Context) error // if not nil, it is called before the server is shut down
}

// listen opens every socket before any is served, so that an address in use is an error at
// the start.
func (g *servers) listen(l *live, c, admin http.Handler, peers *http.Server) error {
	s, log := l.current, l.log
	g.leave = l.replica.leave
	if err := g.add(s.listen, newServer(c, l.tlsConfig(), log)); err != nil {
		return err
	}
	clients := &g.running[0]
	g.address = clients.listener.Addr()
	clients.listener = s.connections(log).Listen(clients.listener)
	clients.server.MaxHeaderBytes = int(cmp.Or(s.config.limits.headerBytes, defaultHeader))
	if peers != nil { // behind that of clients, whose downloads may come from here until they end
		if err := g.add(s.fleet.listen, peers); err != nil {
			return err
		}
		g.running[1].wait = l.replica.Drain
		log.Info("serving the other replicas", "self", s.fleet.self, "address", g.running[1].listener.Addr())
	}
	if s.admin == "" {
		return nil
	}
	if err := g.add(s.admin, newServer(admin, l.secureAdmin(), log)); err != nil {
		return err
	}
	log.Info("serving the status page", "address", g.running[len(g.running)-1].listener.Addr())
	return nil
}

// add opens the socket of a server.
func (g *servers) add(address string, server *http.Server) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		for _, r := range g.running {
			r.listener.Close()
		}
		return err
	}
	g.running = append(g.running, running{server: server, listener: l})
	return nil
}

// newServer returns a server; a nil secure means plain HTTP. It has no WriteTimeout: a layer may
// take an hour on a slow link.
func newServer(h http.Handler, secure *tls.Config, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		TLSConfig:         secure,
	}
}

// run serves until ctx ends or a server fails, then drains.
func (g *servers) run(ctx context.Context, drain time.Duration, log *slog.Logger) error {
	failed := make(chan error, len(g.running))
	for _, r := range g.running {
		go func() { failed <- r.serve() }()
	}
	var err error
	select {
	case <-ctx.Done():
		log.Info("draining", "timeout", drain)
	case err = <-failed:
	}
	g.leave()
	g.drain(drain, log)
	return err
}

// drain lets running responses finish. Those that do not finish within the deadline are cut
// off, after which clients usually retry. That is no error of the program.
func (g *servers) drain(timeout time.Duration, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// That of clients first, then that of the other replicas, which refuses what is new already,
	// and the admin address last, so that /healthz responds to the end.
	for _, r := range g.running {
		if r.wait != nil {
			_ = r.wait(ctx) // what is left then is cut off below
		}
		if err := r.server.Shutdown(ctx); err != nil {
			log.Warn("responses that did not finish in time were cut off", "error", err)
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

// observe writes one line for each request, with more attributes at its end.
func observe(log *slog.Logger, o cache.Outcome, more ...slog.Attr) {
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
	attrs = append(attrs, more...)
	if o.Err != nil {
		attrs = append(attrs, slog.Any("error", o.Err))
	}
	log.LogAttrs(context.Background(), level(o), "request", attrs...)
}

// short cuts a text of a client for the log. A digest fits, and so does the longest tag.
func short(text string) string {
	const most = 160
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}

// level returns the level at which a request is logged. A 404 is no warning, since clients
// often request what no registry has, such as the tags of signatures (sha256-….sig).
func level(o cache.Outcome) slog.Level {
	if errors.Is(o.Err, inbound.ErrNoCredentials) {
		return slog.LevelInfo // clients learn so how to log in
	}
	switch o.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return slog.LevelWarn
	}
	refused := o.Status >= 400 && o.Status < 500
	// With status 0 the connection ended before a header was sent; with an error after a
	// good status it ended in the middle of the body.
	if o.Status == 0 || o.Status >= 500 || o.Err != nil && !refused {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}
