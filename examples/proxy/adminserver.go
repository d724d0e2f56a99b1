package main

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
	"github.com/pullthrough/pullthrough/examples/proxy/health"
	"github.com/pullthrough/pullthrough/examples/proxy/metrics"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// newAdmin returns the handler of the admin listener. Its streams end with ctx.
func (l *live) newAdmin(ctx context.Context, c *cache.Cache, in store.Store, outbox *webhook.Outbox, ready *health.Ready) *admin.Server {
	s := l.current
	var replicas admin.Replicas
	var figures metrics.Fleet
	if l.replica.Fleet != nil {
		replicas, figures = l.replica, l.replica
	}
	return &admin.Server{
		Ready: ready,
		Metrics: metrics.Handler(metrics.Source{
			Cache: c, Recorder: l.recorder, Outbox: outbox, Size: sizeOf(in), Credentials: l.credentialSets, Prefetch: l.prefetch.Stats, Fleet: figures, Logger: l.log,
		}),
		Debug: s.profiles(),
		API: &admin.API{
			Cache:   c,
			Store:   in,
			Rules:   s.rules,
			Outbox:  outbox,
			Fleet:   replicas,
			Started: time.Now().UTC(),
			Ending:  ctx.Done(),
			Logger:  l.log,
		},
		Access: s.access,
		Logger: l.log,
	}
}

// secureAdmin returns the TLS of the admin listener, or nil for plain HTTP. Its certificates
// are those that are in force when a client connects.
func (l *live) secureAdmin() *tls.Config {
	if l.adminTLS.Load() == nil {
		return nil
	}
	return &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return l.adminTLS.Load(), nil },
		// Never used, but ServeTLS wants to know that there is one.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &l.adminTLS.Load().Certificates[0], nil },
	}
}
