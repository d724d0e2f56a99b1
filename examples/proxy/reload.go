package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/examples/proxy/gate"
	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
	"github.com/pullthrough/pullthrough/examples/proxy/mirror"
	"github.com/pullthrough/pullthrough/examples/proxy/prefetch"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// live holds the settings in force, and reads the file again.
type live struct {
	file        string
	log         *slog.Logger
	current     *settings // its rules are one set that changes
	certificate atomic.Pointer[tls.Certificate]
	adminTLS    atomic.Pointer[tls.Config]
	latest      atomic.Pointer[settings] // current, for those who only read
	recorder    *watch.Recorder
	events      webhook.Sink // nil without receivers
	clientCAs   atomic.Pointer[x509.CertPool]
	gate        *inbound.Gate
	keys        *inbound.Keys // of the token service, if the file names none
	changes     chan struct{} // gets a value when a file has changed that takes effect without a signal
	rates       rates
	mirrors     mirror.Upstream
	prefetch    prefetch.Scheduler
	gates       gate.Gates
	replica     replica
	reconsider  func(ctx context.Context, repository, tag string) (int, error) // of the cache
}

// newLive puts the settings of a file in force.
func newLive(file string, s *settings, log *slog.Logger) *live {
	l := &live{file: file, log: log, current: s, recorder: &watch.Recorder{Client: clientName}, gate: s.newGate(log), changes: make(chan struct{}, 1)}
	s.client.Observe = l.recorder.Call
	l.certificate.Store(s.certificate)
	l.clientCAs.Store(s.clientCAs)
	l.adminTLS.Store(s.adminTLS)
	l.latest.Store(s)
	l.rates.set(s.config)
	l.mirrors.Set(s.mirrors)
	return l
}

// getCertificate returns the certificate in force, or nil without TLS.
func (l *live) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return l.certificate.Load(), nil
}

// follow reads the file again at each signal until ctx ends, and the files that it names when they
// change. Signals that come while it reads count as one.
func (l *live) follow(ctx context.Context, hangups <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			l.reload(ctx)
		case <-l.changes:
			l.refresh(ctx)
		}
	}
}

// reload applies the whole file, or nothing of it: a part of it, such as a new rule without
// the entry for its host in upstreams, is a configuration that nobody wrote.
func (l *live) reload(ctx context.Context) {
	next, err := build(l.file)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			l.log.Error("not reloaded: the file is wrong; what was read before stays in force", "error", strings.TrimSuffix(line, "\n"))
		}
		return
	}
	if keys := l.current.fixed(next); len(keys) > 0 {
		l.log.Error("not reloaded: a change needs a restart; what was read before stays in force", "keys", strings.Join(keys, ", "))
		return
	}
	list := next.keep(l.current)
	l.gates.Assign(next.gates) // before the rules: none is without its gate for a moment
	if err := l.current.rules.Assign(list...); err != nil {
		l.gates.Assign(l.current.gates)
		l.log.Error("not reloaded: the rules do not fit", "error", err)
		return
	}
	next.rules, next.client = l.current.rules, l.current.client
	closeIdle(next.client)
	l.certificate.Store(next.certificate)
	l.clientCAs.Store(next.clientCAs)
	l.adminTLS.Store(next.adminTLS)
	l.rates.set(next.config)
	l.mirrors.Set(next.mirrors)
	l.prefetch.Set(next.prefetch)
	l.endHolds(ctx)
	l.current = next
	l.latest.Store(next)
	l.gate.SetPolicy(ctx, next.policy, cmp.Or(next.keys, l.keys))
	next.reread()
	l.log.Info("reloaded", "now", next.summary())
	warn(ctx, next.credentials, l.log)
	warnReceivers(ctx, next.receivers, l.log)
}

// fixed returns the keys that differ in next and need a restart: those of the sockets and
// the store, and those with which the cache, the client, the SDK, the rule set and the
// outbox were made.
func (s *settings) fixed(next *settings) (keys []string) {
	cloud := func(c *config) string { return cmp.Or(c.cloud.text, string(azure.Public)) }
	for _, one := range []struct {
		key  string
		same bool
	}{
		{"listen", s.listen == next.listen},
		{"admin", s.admin == next.admin},
		{"adminAccess", s.config.adminAccess.same(next.config.adminAccess)},
		{"debug", s.config.debug.pprof == next.config.debug.pprof},
		{"id", s.config.id.text == next.config.id.text},
		{"fleet", s.config.fleet.same(next.config.fleet)},
		{"publicHost", s.config.publicHost.text == next.config.publicHost.text},
		{"tls", s.sameTLS(next)},
		{"store", s.storeKind == next.storeKind && s.storePath == next.storePath},
		{"far", s.config.far.same(next.config.far)},
		{"eviction", s.sameEviction(next)},
		{"tenant", strings.EqualFold(s.config.tenant.text, next.config.tenant.text)},
		{"cloud", cloud(s.config) == cloud(next.config)},
		{"nested", s.config.nested == next.config.nested},
		{"drain", s.drain() == next.drain()},
		{"upstreams", maps.EqualFunc(s.client.Hosts, next.client.Hosts, sameHost) && maps.Equal(s.sources.Hosts, next.sources.Hosts) &&
			sameClientCerts(s.config.upstreams, next.config.upstreams) && s.sameBudget(next)},
		{"webhooks", sameWebhooks(s.config.webhooks, next.config.webhooks)},
		{"access", s.sameAccess(next)},
		{"limits", s.config.limits == next.config.limits},
		{"trustedProxies", slices.Equal(s.proxies, next.proxies)},
	} {
		if !one.same {
			keys = append(keys, one.key)
		}
	}
	return keys
}

// sameEviction compares what the files say. What they do not say follows from the store.
func (s *settings) sameEviction(next *settings) bool {
	a, b := s.eviction(), next.eviction()
	return a.MaxBytes == b.MaxBytes && s.config.eviction.minFree == next.config.eviction.minFree && a.MaxAge == b.MaxAge &&
		maps.Equal(a.Rules, b.Rules) && slices.Equal(a.Keep, b.Keep)
}

// sameHost reports whether the settings of an upstream host are equal, including the content
// of its ca file.
func sameHost(a, b upstream.Host) bool {
	return a.PlainHTTP == b.PlainHTTP && a.AnyUpstream == b.AnyUpstream && a.RootCAs.Equal(b.RootCAs) &&
		slices.Equal(a.Realms, b.Realms) && slices.Equal(a.Redirects, b.Redirects)
}

// keep takes the authenticators of old that did not change over, with their tokens and
// cached secrets. It returns the rules.
func (s *settings) keep(old *settings) (list []rule.Rule) {
	for _, one := range s.config.credentials {
		if slices.ContainsFunc(old.config.credentials, one.same) {
			s.credentials[one.name.text] = old.credentials[one.name.text]
		}
	}
	for _, mirrors := range s.mirrors {
		for i, m := range mirrors {
			if a, ok := m.Auth.(*auth.CredentialSet); ok {
				mirrors[i].Auth = s.credentials[a.Name]
			}
		}
	}
	for r := range s.rules.All() {
		switch a := r.Auth.(type) {
		case *auth.CredentialSet:
			r.Auth = s.credentials[a.Name]
		case *azure.UserAssigned:
			before, _ := old.rules.Get(r.Name)
			if kept, ok := before.Auth.(*azure.UserAssigned); ok && kept.ResourceID() == a.ResourceID() {
				r.Auth = kept
			}
		}
		list = append(list, r)
	}
	return list
}

// reread makes secrets that are cached in memory be read again at their next use. A secret
// that did not change keeps its tokens.
func (s *settings) reread() {
	for _, set := range s.credentials {
		for _, secret := range []auth.Secret{set.Username, set.Password} {
			if kept, ok := auth.SecretAs[auth.SecretInvalidator](secret); ok {
				kept.Invalidate()
			}
		}
	}
}

// same reports whether two credential sets are equal, apart from their positions.
func (c credentialConfig) same(other credentialConfig) bool {
	return c.name.text == other.name.text && c.loginServer.text == other.loginServer.text && c.identity.text == other.identity.text &&
		c.username.same(other.username) && c.password.same(other.password)
}

func (s secretConfig) same(other secretConfig) bool {
	return s.value.text == other.value.text && s.env.text == other.env.text && s.file.text == other.file.text && s.keyVault.text == other.keyVault.text
}
