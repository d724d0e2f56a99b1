package upstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// mutual is a server that asks for client certificates, and notes the name in that of each
// request.
type mutual struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // "none" for a request on a connection without a certificate
}

// newMutual starts a server by TLS that asks for certificates as kind says.
func newMutual(t *testing.T, kind tls.ClientAuthType, h http.Handler) *mutual {
	m := &mutual{}
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "none"
		if len(r.TLS.PeerCertificates) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		m.mu.Lock()
		m.seen = append(m.seen, name)
		m.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	m.Config.ErrorLog = log.New(io.Discard, "", 0)
	m.TLS = &tls.Config{ClientAuth: kind}
	m.EnableHTTP2 = true
	m.StartTLS()
	t.Cleanup(m.Close)
	return m
}

func (m *mutual) host() string { return m.Listener.Addr().String() }

// roots verifies the certificate of every such server.
func (m *mutual) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(m.Certificate())
	return pool
}

// want fails unless the requests so far came with these certificates, and forgets them.
func (m *mutual) want(t *testing.T, names ...string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.seen, names) {
		t.Errorf("the certificates of requests were %q, want %q", m.seen, names)
	}
	m.seen = nil
}

// shown returns a Host.ClientCertificate that shows a certificate of this name.
func shown(t *testing.T, name string) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	frame := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, frame, frame, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
}

// pullBy fetches the blob x of the repository team/api at a host, by a rule of that host.
func pullBy(t *testing.T, c *upstream.Client, host string) error {
	t.Helper()
	repo, err := c.Open(upstream.Source{Rule: "r", Host: host, Repository: "team/api"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := repo.Blob(t.Context(), digest.FromString("x"), 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if string(data) != "x" {
		t.Errorf("the blob is %q", data)
	}
	return err
}

// registry returns the handler of a registry with the blob x.
func registry() http.Handler {
	h := upstreamtest.NewHandler()
	h.AddBlob("team/api", []byte("x"))
	return h
}

// TestClientCertificate: a host that wants a certificate gets the one of its entry, and the
// next connection one that has taken its place. Without one, the error says what is missing.
func TestClientCertificate(t *testing.T) {
	m := newMutual(t, tls.RequireAnyClientCert, registry())
	var now atomic.Pointer[tls.Certificate]
	swap := func(name string) {
		cert, _ := shown(t, name)(nil)
		now.Store(cert)
	}
	c := &upstream.Client{Hosts: map[string]upstream.Host{m.host(): {RootCAs: m.roots(), ClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return now.Load(), nil
	}}}}
	t.Cleanup(c.CloseIdleConnections)
	swap("first")
	if err := pullBy(t, c, m.host()); err != nil {
		t.Fatal(err)
	}
	m.want(t, "first")
	swap("second")
	c.CloseIdleConnections()
	if err := pullBy(t, c, m.host()); err != nil {
		t.Fatal(err)
	}
	m.want(t, "second")
	now.Store(nil) // none
	c.CloseIdleConnections()
	wantError(t, pullBy(t, c, m.host()), upstream.Unreachable)
	m.want(t)
}

// TestClientCertificateIsMissing: without a certificate that the host wants, the error says
// what is missing. By TLS 1.3 the host may close the connection before it is heard.
func TestClientCertificateIsMissing(t *testing.T) {
	m := newMutual(t, tls.RequireAnyClientCert, registry())
	m.TLS.MaxVersion = tls.VersionTLS12
	c := &upstream.Client{Hosts: map[string]upstream.Host{m.host(): {RootCAs: m.roots()}}}
	e := wantError(t, pullBy(t, c, m.host()), upstream.Unreachable)
	if !e.Connect || !strings.Contains(e.Error(), "TLS: it answered tls: handshake failure") || !strings.Contains(e.Reason, "clientCert") {
		t.Errorf("%+v, reason %q", e, e.Reason)
	}
	m.want(t)
}

// TestClientCertificateThatCannotBeHad: the log learns why, clients do not.
func TestClientCertificateThatCannotBeHad(t *testing.T) {
	m := newMutual(t, tls.RequestClientCert, registry())
	because := errors.New("secret.pem: no such file")
	c := &upstream.Client{Hosts: map[string]upstream.Host{m.host(): {RootCAs: m.roots(), ClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return nil, because
	}}}}
	e := wantError(t, pullBy(t, c, m.host()), upstream.Unreachable)
	if !errors.Is(e, because) || !e.Connect || !strings.Contains(e.Error(), "secret.pem") || strings.Contains(e.Reason, "secret.pem") || e.Reason == "" {
		t.Errorf("%v, reason %q", e, e.Reason)
	}
	m.want(t)
}

// TestClientCertificateIsForRulesOfItsHost: a host to which another upstream leads sees no
// certificate, neither its own nor that of the upstream, whichever connection came first.
func TestClientCertificateIsForRulesOfItsHost(t *testing.T) {
	inner := newMutual(t, tls.RequestClientCert, registry())
	outer := newMutual(t, tls.RequestClientCert, http.RedirectHandler(inner.URL+"/v2/team/api/blobs/"+digest.FromString("x").String(), http.StatusTemporaryRedirect))
	c := &upstream.Client{Hosts: map[string]upstream.Host{
		inner.host(): {RootCAs: inner.roots(), ClientCertificate: shown(t, "inner")},
		outer.host(): {RootCAs: outer.roots(), ClientCertificate: shown(t, "outer"), Redirects: []string{inner.host()}},
	}}
	t.Cleanup(c.CloseIdleConnections)
	for range 2 {
		if err := pullBy(t, c, inner.host()); err != nil {
			t.Fatal(err)
		}
		inner.want(t, "inner")
		if err := pullBy(t, c, outer.host()); err != nil {
			t.Fatal(err)
		}
		outer.want(t, "outer")
		inner.want(t, "none")
	}
}

// TestClientCertificateOfTokenServers: a listed token server sees the certificate of the
// rule's host, or that of an entry of its own, and neither when it is asked for a blob.
func TestClientCertificateOfTokenServers(t *testing.T) {
	issuer := newMutual(t, tls.RequestClientCert, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			_, _ = w.Write([]byte(`{"token":"t"}`))
			return
		}
		registry().ServeHTTP(w, r)
	}))
	blob := issuer.URL + "/v2/team/api/blobs/" + digest.FromString("x").String()
	guarded := newMutual(t, tls.RequestClientCert, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+issuer.URL+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, blob, http.StatusTemporaryRedirect)
	}))
	for _, test := range []struct {
		name  string
		entry func(map[string]upstream.Host)
		want  string
	}{
		{"no entry", func(map[string]upstream.Host) {}, "guarded"},
		{"entry with a certificate", func(hosts map[string]upstream.Host) {
			hosts[issuer.host()] = upstream.Host{RootCAs: issuer.roots(), ClientCertificate: shown(t, "issuer")}
		}, "issuer"},
		{"entry without one", func(hosts map[string]upstream.Host) {
			hosts[issuer.host()] = upstream.Host{RootCAs: issuer.roots()}
		}, "none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			hosts := map[string]upstream.Host{guarded.host(): {RootCAs: guarded.roots(), ClientCertificate: shown(t, "guarded"),
				Realms: []string{issuer.host()}, Redirects: []string{issuer.host()}}}
			test.entry(hosts)
			c := &upstream.Client{Hosts: hosts}
			t.Cleanup(c.CloseIdleConnections)
			if err := pullBy(t, c, guarded.host()); err != nil {
				t.Fatal(err)
			}
			issuer.want(t, test.want, "none") // the token, and the blob
			guarded.want(t, "guarded", "guarded")
		})
	}
}

// TestClientCertificateBehindAProxy: the proxy sees no certificate, and the host behind it does.
func TestClientCertificateBehindAProxy(t *testing.T) {
	m := newMutual(t, tls.RequireAnyClientCert, registry())
	tunnel := newMutual(t, tls.RequestClientCert, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		far, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer far.Close()
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer near.Close()
		_, _ = near.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		go func() { _, _ = io.Copy(far, near) }()
		_, _ = io.Copy(near, far)
	}))
	at, _ := url.Parse(tunnel.URL)
	c := &upstream.Client{
		Proxy: func(*http.Request) (*url.URL, error) { return at, nil },
		Hosts: map[string]upstream.Host{m.host(): {RootCAs: m.roots(), ClientCertificate: shown(t, "first")}},
	}
	t.Cleanup(c.CloseIdleConnections)
	if err := pullBy(t, c, m.host()); err != nil {
		t.Fatal(err)
	}
	tunnel.want(t, "none")
	m.want(t, "first")
	c.CloseIdleConnections()
}
