package upstreamtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// NewTLSRegistry starts a registry that speaks https (HTTP/1.1 and h2) with a
// certificate for 127.0.0.1, localhost and names, and that ends with the test.
func NewTLSRegistry(t testing.TB, names ...string) *Registry {
	t.Helper()
	r, err := StartTLS(names...)
	if err != nil {
		t.Fatal(err)
	}
	r.t = t
	t.Cleanup(r.Close)
	return r
}

// StartTLS is Start with https. See [NewTLSRegistry].
func StartTLS(names ...string) (*Registry, error) {
	cert, roots, err := selfSigned(names)
	if err != nil {
		return nil, fmt.Errorf("upstreamtest: certificate: %w", err)
	}
	r := newRegistry()
	r.roots = roots
	r.tls = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	if err := r.listen(); err != nil {
		return nil, err
	}
	return r, nil
}

// Roots are the authorities that the registry's certificate verifies with; nil
// for one that speaks plain HTTP.
func (r *Registry) Roots() *x509.CertPool { return r.roots }

// URL is scheme://host:port.
func (r *Registry) URL() string {
	if r.tls != nil {
		return "https://" + r.Host()
	}
	return "http://" + r.Host()
}

// Upstream is what a client must know of this registry, for Client.Hosts.
func (r *Registry) Upstream() upstream.Host {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := upstream.Host{PlainHTTP: r.tls == nil, RootCAs: r.roots}
	if r.issuer != nil && r.issuer != r {
		h.Realms = []string{r.issuer.Host()}
	}
	return h
}

// selfSigned makes a certificate that is its own authority, for one hour
// before and a day after now.
func selfSigned(names []string) (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "upstreamtest"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
		DNSNames:              append([]string{"localhost"}, names...),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots, nil
}
