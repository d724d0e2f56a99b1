package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

// live is what is in force, and how the file is read again.
type live struct {
	file        string
	log         *slog.Logger
	now         *settings // its rules stay the same set, which changes
	certificate atomic.Pointer[tls.Certificate]
}

// newLive puts the settings of a file in force.
func newLive(file string, s *settings, log *slog.Logger) *live {
	l := &live{file: file, log: log, now: s}
	l.certificate.Store(s.certificate)
	return l
}

// getCertificate returns the certificate in force; nil: no TLS.
func (l *live) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return l.certificate.Load(), nil
}

// follow reads the file again at each signal until ctx ends. Signals that come
// while it does count as one.
func (l *live) follow(ctx context.Context, again <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
			l.reload(ctx)
		}
	}
}

// reload puts in force what the file says now, all of it or nothing: half a
// file, such as a new rule without what upstreams says of its host, is a
// mixture that nobody wrote.
func (l *live) reload(ctx context.Context) {
	next, err := build(l.file)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			l.log.Error("not reloaded: the file is wrong; what was read before stays in force", "error", strings.TrimSuffix(line, "\n"))
		}
		return
	}
	if keys := l.now.fixed(next); len(keys) > 0 {
		l.log.Error("not reloaded: a change needs a restart; what was read before stays in force", "keys", strings.Join(keys, ", "))
		return
	}
	list := next.keep(l.now)
	if err := l.now.rules.Assign(list...); err != nil {
		l.log.Error("not reloaded: the rules do not fit", "error", err)
		return
	}
	next.rules = l.now.rules
	l.certificate.Store(next.certificate)
	l.now = next
	next.reread()
	l.log.Info("reloaded", "now", next.summary())
	warn(ctx, next.credentials, l.log)
	warnReceivers(ctx, next.receivers, l.log)
}

// fixed returns the keys whose change needs a restart: sockets, the store, and
// what the cache, the client, the SDK, the rule set and the outbox were made with.
func (s *settings) fixed(next *settings) (keys []string) {
	cloud := func(c *config) string { return cmp.Or(c.cloud.text, string(azure.Public)) }
	for _, one := range []struct {
		key  string
		same bool
	}{
		{"listen", s.listen == next.listen},
		{"admin", s.admin == next.admin},
		{"publicHost", s.config.publicHost.text == next.config.publicHost.text},
		{"tls", (s.certificate == nil) == (next.certificate == nil)},
		{"store", s.storeKind == next.storeKind && s.storePath == next.storePath},
		{"tenant", strings.EqualFold(s.config.tenant.text, next.config.tenant.text)},
		{"cloud", cloud(s.config) == cloud(next.config)},
		{"nested", s.config.nested == next.config.nested},
		{"upstreams", maps.EqualFunc(s.client.Hosts, next.client.Hosts, sameHost) && maps.Equal(s.sources.Hosts, next.sources.Hosts)},
		{"webhooks", sameWebhooks(s.config.webhooks, next.config.webhooks)},
	} {
		if !one.same {
			keys = append(keys, one.key)
		}
	}
	return keys
}

// sameHost reports whether nothing about an upstream host changed, the content
// of its ca file included.
func sameHost(a, b upstream.Host) bool {
	return a.PlainHTTP == b.PlainHTTP && a.AnyUpstream == b.AnyUpstream && a.RootCAs.Equal(b.RootCAs) &&
		slices.Equal(a.Realms, b.Realms) && slices.Equal(a.Redirects, b.Redirects)
}

// keep takes over the authenticators of old that did not change, and with them
// the tokens they earned and the secrets they read. It returns the rules.
func (s *settings) keep(old *settings) (list []rule.Rule) {
	for _, one := range s.config.credentials {
		if slices.ContainsFunc(old.config.credentials, one.same) {
			s.credentials[one.name.text] = old.credentials[one.name.text]
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

// reread makes secrets that are kept in memory be read again at their next use.
// One that did not change costs no token.
func (s *settings) reread() {
	for _, set := range s.credentials {
		for _, secret := range []auth.Secret{set.Username, set.Password} {
			if kept, ok := auth.SecretAs[auth.SecretInvalidator](secret); ok {
				kept.Invalidate()
			}
		}
	}
}

// same reports whether two credential sets say the same, wherever they stand.
func (c credentialConfig) same(other credentialConfig) bool {
	return c.name.text == other.name.text && c.loginServer.text == other.loginServer.text && c.identity.text == other.identity.text &&
		c.username.same(other.username) && c.password.same(other.password)
}

func (s secretConfig) same(other secretConfig) bool {
	return s.value.text == other.value.text && s.env.text == other.env.text && s.file.text == other.file.text && s.keyVault.text == other.keyVault.text
}
