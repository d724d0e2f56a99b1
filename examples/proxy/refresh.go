package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// watchEvery is how often files are looked at. A change takes effect after two looks.
const watchEvery = 2 * time.Second

// open puts the policy in force, and looks for changes of files until ctx ends. Nobody is let in before.
func (l *live) open(ctx context.Context, c *cache.Cache) error {
	s := l.current
	l.gate.Repositories, l.gate.Observe = c.Repositories, c.Observe
	keys := s.keys
	if s.policy != nil && keys == nil {
		var err error
		if keys, err = inbound.NewKeys(); err != nil {
			return err
		}
		l.keys = keys
	}
	l.gate.SetPolicy(ctx, s.policy, keys)
	go inbound.Watch(ctx, watchEvery, func() []string { return l.latest.Load().changing() }, func() {
		select {
		case l.changes <- struct{}{}:
		default: // a change is waiting already
		}
	})
	return nil
}

// refresh reads the files again that take effect by themselves. What cannot be read stays as it was.
func (l *live) refresh(ctx context.Context) {
	t := l.current.config.tls
	if t.cert.given() {
		pair, err := tls.LoadX509KeyPair(t.cert.text, t.key.text)
		if err != nil {
			l.log.Error("the certificate has changed and cannot be read; the former one stays in force", "error", err)
		} else {
			l.certificate.Store(&pair)
		}
	}
	if t.clientCA.given() {
		pool, err := readPool(t.clientCA.text)
		if err != nil {
			l.log.Error("clientCA has changed and cannot be read; the former certificates stay in force", "error", err)
		} else {
			l.clientCAs.Store(pool)
		}
	}
	for _, err := range split(l.gate.Refresh(ctx)) {
		l.log.Error("the htpasswd file has changed and is wrong; the users stay as they were", "error", err)
	}
	l.log.Info("files have changed and were read again")
}

// tlsConfig returns the settings of TLS, or nil for plain HTTP. Certificates are those in force
// at each handshake.
func (l *live) tlsConfig() *tls.Config {
	s := l.current
	if s.certificate == nil {
		return nil
	}
	c := &tls.Config{GetCertificate: l.getCertificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if s.clientCAs == nil {
		return c
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if s.config.tls.clientAuth.text == "request" {
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	base := c.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		one := base.Clone()
		one.ClientCAs = l.clientCAs.Load()
		return one, nil
	}
	return c
}

// observe records and logs a request. One for a token is no pull, but who gets none may be interesting.
func (l *live) observe(r *http.Request, o cache.Outcome) {
	if o.Access.Kind != inbound.AccessToken || o.Status >= http.StatusBadRequest {
		l.recorder.Request(r, o)
	}
	observe(l.log, o, whoAsks(r)...)
}

// clientName names the client of a request for people.
func clientName(r *http.Request) string {
	address, subject := inbound.Client(r)
	if subject == "" {
		return address.String()
	}
	return subject + " at " + address.String()
}

// whoAsks says for the log who has sent a request.
func whoAsks(r *http.Request) []slog.Attr {
	address, subject := inbound.Client(r)
	attrs := []slog.Attr{slog.String("client", address.String())}
	if subject != "" {
		attrs = append(attrs, slog.String("user", short(subject)))
	}
	return attrs
}

// sameTLS reports whether the listener needs no other settings.
func (s *settings) sameTLS(next *settings) bool {
	return (s.certificate == nil) == (next.certificate == nil) && (s.clientCAs == nil) == (next.clientCAs == nil) &&
		s.config.tls.clientAuth.text == next.config.tls.clientAuth.text
}

// sameAccess reports whether clients are asked in the same way. Who may pull what can change without a
// restart.
func (s *settings) sameAccess(next *settings) bool {
	a, b := s.config.access, next.config.access
	t, u := a.tokenService, b.tokenService
	return a.given() == b.given() && a.challenge.text == b.challenge.text && t.service.text == u.service.text && t.realm.text == u.realm.text &&
		t.lifetime == u.lifetime && t.refreshLifetime == u.refreshLifetime && (s.keys == nil) == (next.keys == nil)
}
