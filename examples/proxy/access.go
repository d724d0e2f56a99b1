package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"slices"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
	"github.com/pullthrough/pullthrough/rule"
)

// readAccess checks what the file says about clients: access, limits, trustedProxies, and the
// client certificates of tls.
func (s *settings) readAccess(c *config, found *mistakes) {
	for _, w := range c.trustedProxies {
		network, err := inbound.ParseProxy(w.text)
		switch {
		case w.text == "":
		case err != nil:
			found.add(w.position, "%q is neither a network such as 10.0.0.0/8 nor an address", w.text)
		case network.Bits() == 0:
			found.add(w.position, "%q would believe everybody; name the addresses of your reverse proxies", w.text)
		default:
			s.proxies = append(s.proxies, netip.PrefixFrom(network.Addr(), network.Bits()).Masked())
		}
	}
	s.readClientCA(c, found)
	if !c.access.given() {
		return
	}
	a := c.access
	s.policy = &inbound.Policy{
		Passwords: a.passwords(found), Users: a.grants(a.users), Certificates: a.grants(a.certificates), Anonymous: patterns(a.anonymous),
	}
	for i, g := range a.grants(a.tokens) {
		s.policy.Tokens = append(s.policy.Tokens, inbound.Token{Grant: g, Secret: a.tokens[i].token(found)})
	}
	s.keys = a.tokenService.keys(found)
	a.check(c, found)
	for _, g := range slices.Concat(a.users, a.tokens, a.certificates, []grantConfig{{pull: a.anonymous}}) {
		s.checkCanonical(g.pull, found)
	}
}

// readClientCA reads the certificates that client certificates are checked with.
func (s *settings) readClientCA(c *config, found *mistakes) {
	switch c.tls.clientAuth.text {
	case "", "require", "request":
	default:
		found.add(c.tls.clientAuth.position, "%q is neither require nor request", c.tls.clientAuth.text)
	}
	if c.tls.clientCA.text == "" {
		if c.tls.clientAuth.given() {
			found.add(c.tls.clientAuth.position, "needs clientCA: the file with the certificates that client certificates are checked with")
		}
		return
	}
	pool, err := readPool(c.tls.clientCA.text)
	if err != nil {
		found.add(c.tls.clientCA.position, "%v", err)
		return
	}
	s.clientCAs = pool
}

// readPool reads certificates from a PEM file.
func readPool(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New(path + " has no certificate in PEM form")
	}
	return pool, nil
}

// passwords reads the htpasswd file, and notes each mistake in it with its line.
func (a accessConfig) passwords(found *mistakes) *inbound.Passwords {
	if a.htpasswd.text == "" {
		return nil
	}
	p := &inbound.Passwords{Path: a.htpasswd.text}
	for _, err := range split(p.Load()) {
		found.add(a.htpasswd.position, "%v", err)
	}
	return p
}

// grants returns what the elements of a list may pull.
func (a accessConfig) grants(list []grantConfig) (all []inbound.Grant) {
	for _, g := range list {
		all = append(all, inbound.Grant{Name: g.name.text, Pull: patterns(g.pull)})
	}
	return all
}

// patterns returns the texts of a list.
func patterns(list []word) (all inbound.Patterns) {
	for _, w := range list {
		all = append(all, w.text)
	}
	return all
}

// token returns the secret of a token. It is never nil.
func (g grantConfig) token(found *mistakes) auth.Secret {
	if text := g.secret.value.text; text != "" && len(text) < inbound.MinToken {
		found.add(g.secret.value.position, "has less than %d characters and could be guessed; make one with: openssl rand -hex 32", inbound.MinToken)
	}
	if secret := g.secret.secret(nil, word{}, found); secret != nil {
		return secret
	}
	return auth.Value{}
}

// keys reads the keys of the token service, or returns nil if there is no file.
func (t tokenServiceConfig) keys(found *mistakes) *inbound.Keys {
	if t.key.text == "" {
		return nil
	}
	keys, err := inbound.ReadKeys(t.key.text)
	if err != nil {
		found.add(t.key.position, "%v", err)
	}
	return keys
}

// check notes what does not fit together.
func (a accessConfig) check(c *config, found *mistakes) {
	switch inbound.Challenge(a.challenge.text) {
	case "", inbound.Bearer:
	case inbound.Basic:
		if a.tokenService.line != 0 {
			found.add(a.tokenService.position, "makes no sense with challenge: basic, which has no token service")
		}
	default:
		found.add(a.challenge.position, "%q is neither bearer nor basic", a.challenge.text)
	}
	if len(a.users) > 0 && !a.htpasswd.given() {
		found.add(a.users[0].position, "needs htpasswd: the file with the passwords of users")
	}
	if len(a.certificates) > 0 && c.tls.clientCA.text == "" {
		found.add(a.certificates[0].position, "needs tls.clientCA: the file with the certificates that client certificates are checked with")
	}
	if !a.htpasswd.given() && len(a.users) == 0 && len(a.tokens) == 0 && len(a.certificates) == 0 && len(a.anonymous) == 0 {
		found.add(a.position, "lets nobody in: name a htpasswd file, tokens, certificates or what anonymous clients may pull")
	}
	t := a.tokenService
	if u, err := url.Parse(t.realm.text); t.realm.text != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.String() != t.realm.text) {
		found.add(t.realm.position, "%q is not a URL such as https://cache.example.com%s", t.realm.text, inbound.TokenPath)
	}
	if t.service.text != "" && !plainWord(t.service.text) {
		found.add(t.service.position, "%q is not a name of letters, digits, '.', '_', ':' and '-'", t.service.text)
	}
	if t.refreshLifetime > 0 && !t.key.given() {
		found.add(t.position, "refreshLifetime needs key: without a file, the tokens would end with the process")
	}
}

// plainWord reports whether a text can stand in a header without quotes.
func plainWord(text string) bool {
	for _, c := range text {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' && c != ':' {
			return false
		}
	}
	return true
}

// checkCanonical notes patterns without a wildcard that are another name of a repository.
func (s *settings) checkCanonical(list []word, found *mistakes) {
	if s.rules == nil {
		return // which has mistakes of its own
	}
	for _, w := range list {
		if m, err := s.rules.Match(context.Background(), w.text); err == nil && m.Repository != w.text {
			found.add(w.position, "%q is another name of %q, and patterns have canonical names: write %q", w.text, m.Repository, m.Repository)
		}
	}
}

// canonicalName returns a function that finds the canonical name of a repository.
func canonicalName(rules *rule.Set) func(context.Context, string) string {
	return func(ctx context.Context, name string) string {
		if m, err := rules.Match(ctx, name); err == nil {
			return m.Repository
		}
		return name
	}
}

// newGate returns what stands before the cache, without its policy.
func (s *settings) newGate(log *slog.Logger) *inbound.Gate {
	a, l := s.config.access, s.config.limits
	service := cmp.Or(a.tokenService.service.text, s.config.publicHost.text)
	return &inbound.Gate{
		Challenge:       inbound.Challenge(a.challenge.text),
		Service:         service,
		Realm:           a.tokenService.realm.text,
		PublicHost:      s.config.publicHost.text,
		Lifetime:        a.tokenService.lifetime,
		RefreshLifetime: a.tokenService.refreshLifetime,
		Proxies:         s.proxies,
		Requests:        l.requestsPerAddress,
		UserRequests:    l.requestsPerUser,
		FailedLogins:    l.failedLogins,
		MaxBody:         l.bodyBytes,
		Canonical:       canonicalName(s.rules),
		Logger:          log,
	}
}

// The limits of connections, if the file does not say them. A connection takes two file descriptors
// while it pulls what is stored.
const (
	defaultConnections = 8192
	defaultPerAddress  = 1024
	defaultHeader      = 64 << 10
)

// connections returns the limits of connections.
func (s *settings) connections(log *slog.Logger) *inbound.Connections {
	l := s.config.limits
	return &inbound.Connections{
		Most: int(cmp.Or(l.connections, defaultConnections)), PerAddress: int(cmp.Or(l.connectionsPerAddress, defaultPerAddress)),
		Proxies: s.proxies, Logger: log,
	}
}

// changing returns the files whose changes take effect without a signal.
func (s *settings) changing() []string {
	c := s.config
	files := []string{c.tls.cert.text, c.tls.key.text, c.tls.clientCA.text, c.access.htpasswd.text}
	for _, t := range c.access.tokens {
		files = append(files, t.secret.file.text)
	}
	return slices.DeleteFunc(files, func(path string) bool { return path == "" })
}
