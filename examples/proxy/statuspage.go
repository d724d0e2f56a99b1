package main

import (
	"context"
	"errors"
	"net"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
	"github.com/pullthrough/pullthrough/examples/proxy/health"
	"github.com/pullthrough/pullthrough/examples/proxy/page"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// operators returns the handler of the admin listener, and the status page in it.
func (l *live) operators(ctx context.Context, c *cache.Cache, in store.Store, outbox *webhook.Outbox) (*admin.Server, *page.Page) {
	ready := &health.Ready{Cache: c, Store: in, Hosts: l.recorder.Hosts, Ending: ctx.Done()}
	server, status := l.newAdmin(ctx, c, in, outbox, ready), l.newPage(c, in, outbox, ready)
	server.Page = status
	return server, status
}

// newPage returns the status page. It needs the address of the listener before its first use.
func (l *live) newPage(c *cache.Cache, in store.Store, outbox *webhook.Outbox, ready *health.Ready) *page.Page {
	s := l.current
	p := &page.Page{
		Cache:       c,
		Record:      l.recorder,
		Rules:       s.rules,
		Size:        sizeOf(in),
		Ready:       func(ctx context.Context) error { return unready(ready.Report(ctx)) },
		Credentials: l.credentialSets,
		Held:        c.HeldTags,
		Gated:       func() bool { return len(l.latest.Load().gates) > 0 },
		Outbox:      outbox,
		Try:         s.example,
		Acting:      s.access.Acting(),
		Logger:      l.log,
	}
	if l.replica.Fleet != nil {
		p.Fleet = l.replica
	}
	return p
}

// unready returns why a proxy is not ready, or nil.
func unready(r health.Report) error {
	var faults []error
	for _, c := range r.Checks {
		if !c.OK {
			faults = append(faults, errors.New(c.Name+": "+c.Reason))
		}
	}
	return errors.Join(faults...)
}

// clientAddress is where clients reach the cache, in the names of images.
func (s *settings) clientAddress(listener net.Addr) string {
	if host := s.config.publicHost.text; host != "" {
		return host
	}
	return reachable(listener)
}
