package upstreamtest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
	"github.com/pullthrough/pullthrough/upstream"
)

// NewTLSRegistry starts a registry that speaks https (HTTP/1.1 and h2) with a
// certificate for 127.0.0.1, localhost and names, and that ends with the test.
func NewTLSRegistry(t testing.TB, names ...string) *Registry {
	t.Helper()
	r, err := StartTLS(names...)
	return ofTest(t, r, err)
}

// StartTLS is Start with https. See [NewTLSRegistry].
func StartTLS(names ...string) (*Registry, error) {
	ca, err := fakeserver.NewCA(name)
	if err != nil {
		return nil, fmt.Errorf("%s: certificate: %w", name, err)
	}
	cert, err := ca.Certificate(append([]string{"localhost", "127.0.0.1", "::1"}, names...)...)
	if err != nil {
		return nil, fmt.Errorf("%s: certificate: %w", name, err)
	}
	return start(ca.Roots(), &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2", "http/1.1"}})
}

// Roots returns the pool that verifies the registry's certificate, or nil if the registry
// uses plain HTTP.
func (r *Registry) Roots() *x509.CertPool { return r.roots }

// URL returns the URL of the registry: scheme://host:port.
func (r *Registry) URL() string {
	if r.roots != nil {
		return "https://" + r.Host()
	}
	return "http://" + r.Host()
}

// Upstream returns the settings of a client for this registry, for Client.Hosts.
func (r *Registry) Upstream() upstream.Host {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := upstream.Host{PlainHTTP: r.roots == nil, RootCAs: r.roots}
	if r.issuer != nil && r.issuer != r {
		h.Realms = []string{r.issuer.Host()}
	}
	return h
}
