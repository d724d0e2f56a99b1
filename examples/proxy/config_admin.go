package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/examples/proxy/admin"
	"github.com/pullthrough/pullthrough/rule"
)

// adminConfig says who may act at the admin address.
type adminConfig struct {
	position
	token    secretConfig
	tls      tlsConfig
	clientCA word
	names    []word
}

// read returns the read of the adminAccess section.
func (a *adminConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		a.position = pos
		r.fields(n, pos, map[string]read{
			"token":    a.readToken(r),
			"tls":      a.tls.read(r),
			"clientCA": r.word(&a.clientCA),
			"names":    r.words(&a.names),
		})
	}
}

// readToken returns the read of the token, which is never a plain text: one that is written
// into the file says so with value.
func (a *adminConfig) readToken(r reader) read {
	return func(n *yaml.Node, pos position) {
		a.token.choose(r, n, pos, "value, env and file", map[string]read{
			"value": r.word(&a.token.value), "env": r.word(&a.token.env), "file": r.word(&a.token.file),
		})
	}
}

// same reports whether two sections are equal, apart from the content of files.
func (a adminConfig) same(o adminConfig) bool {
	return a.token.same(o.token) && a.tls.cert.text == o.tls.cert.text && a.tls.key.text == o.tls.key.text && a.clientCA.text == o.clientCA.text &&
		slices.EqualFunc(a.names, o.names, func(x, y word) bool { return x.text == y.text })
}

// readAdmin checks the adminAccess section. It leaves the access and the TLS of the admin address.
func (s *settings) readAdmin(c *config, found *mistakes) {
	a := c.adminAccess
	s.access = admin.Access{OpenReading: !exposed(s.admin), Names: adminNames(s.admin, a.names, found)}
	if a.line == 0 {
		return
	}
	if !c.admin.given() {
		found.add(a.position, "is without effect: there is no admin address; give admin, such as 127.0.0.1:5001, too")
	}
	if a.token.line != 0 {
		s.access.Token = a.token.checked(found, func(text string) error {
			if len(text) < admin.MinToken {
				return fmt.Errorf("the token has %d bytes; use %d or more, such as those of: openssl rand -hex 24", len(text), admin.MinToken)
			}
			if strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
				return errors.New("the token has a space or a character beyond ASCII in it, which a header cannot carry")
			}
			return nil
		})
	}
	if a.clientCA.given() && a.tls.line == 0 {
		found.add(a.clientCA.position, "needs adminAccess.tls: clients show certificates over TLS only")
	}
	s.adminTLS = a.serverTLS(found)
	s.access.Certificates = a.clientCA.given()
}

// adminNames returns the names of the admin address: those of the file, and that in the
// address itself.
func adminNames(address string, list []word, found *mistakes) (names []string) {
	host, _, err := net.SplitHostPort(address)
	if _, notIP := netip.ParseAddr(host); err == nil && notIP != nil && host != "" {
		names = append(names, strings.ToLower(host))
	}
	for _, w := range list {
		if w.text == "" {
			continue // noted when it was read
		}
		name, err := rule.CanonicalHost(w.text)
		if err != nil || strings.Contains(name, ":") {
			found.add(w.position, "%q is no name of a host, such as admin.example.com", w.text)
			continue
		}
		names = append(names, strings.ToLower(strings.TrimSuffix(w.text, ".")))
	}
	return names
}

// serverTLS returns the TLS of the admin address, or nil if it speaks plain HTTP.
func (a adminConfig) serverTLS(found *mistakes) *tls.Config {
	if a.tls.cert.text == "" || a.tls.key.text == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(a.tls.cert.text, a.tls.key.text)
	if err != nil {
		found.add(a.tls.position, "%v", err)
		return nil
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if a.clientCA.text == "" {
		return c
	}
	data, err := os.ReadFile(a.clientCA.text)
	if err != nil {
		found.add(a.clientCA.position, "%v", err)
		return nil
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(data) {
		found.add(a.clientCA.position, "%s has no certificate in PEM form", a.clientCA.text)
	}
	// Probes of /healthz and clients with a token have none.
	c.ClientAuth = tls.VerifyClientCertIfGiven
	return c
}

// warnAdmin logs what others can see if they can reach the admin address, and a token that
// cannot be read.
func (s *settings) warnAdmin(ctx context.Context, log *slog.Logger) {
	if s.admin == "" {
		return
	}
	if t := s.config.adminAccess.token; t.line != 0 {
		if _, _, err := s.access.Token.Read(ctx); err != nil {
			log.Warn("the token of adminAccess cannot be read; nobody can act with it until it can", "error", err)
		}
	}
	if !exposed(s.admin) {
		return
	}
	switch {
	case !s.access.Acting():
		log.Warn("the admin address can be reached by other machines: they can read /metrics, /healthz and /readyz; the page and the API are off there until adminAccess has a token or a clientCA; "+
			"or listen on loopback", "admin", s.admin)
	case s.adminTLS == nil:
		log.Warn("the admin address can be reached by other machines, and the token travels there unencrypted: set adminAccess.tls, or listen on loopback", "admin", s.admin)
	default:
		log.Warn("the admin address can be reached by other machines: they can read /metrics, /healthz and /readyz; everything else needs a token or a client certificate", "admin", s.admin)
	}
}
