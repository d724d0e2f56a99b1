package inbound_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// authority issues client certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  any
}

// newAuthority makes an authority.
func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newP256(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key}
}

// issue makes a certificate.
func (a *authority) issue(template *x509.Certificate) *tls.Certificate {
	a.t.Helper()
	key := newP256(a.t)
	template.SerialNumber, template.NotAfter = big.NewInt(2), time.Now().Add(time.Hour)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// statusOver returns the status of a request over a connection on which a certificate is shown, or -1 if
// there is no answer.
func statusOver(t *testing.T, server *httptest.Server, path string, certificate *tls.Certificate, by proof) int {
	t.Helper()
	transport := server.Client().Transport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	if certificate != nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{*certificate}
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	by(r)
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return -1
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestClientCertificates: a certificate is who a client is, by any of its names; what is shown besides counts
// more.
func TestClientCertificates(t *testing.T) {
	good, other := newAuthority(t), newAuthority(t)
	s := newSite(t, &inbound.Gate{}, func(s *site) {
		s.policy.Certificates = []inbound.Grant{
			{Name: "builder", Pull: inbound.Patterns{"team/tool"}}, {Name: "node.example.com", Pull: inbound.Patterns{"team/app"}},
			{Name: "spiffe://example.com/node", Pull: inbound.Patterns{"secret/*"}}, {Name: "ops@example.com", Pull: inbound.Patterns{"team/*"}},
		}
	})
	server := httptest.NewUnstartedServer(s.gate.Handler(s.cache))
	pool := x509.NewCertPool()
	pool.AddCert(good.cert)
	server.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	server.StartTLS()
	t.Cleanup(server.Close)
	get := func(path string, certificate *tls.Certificate, by proof) int {
		t.Helper()
		return statusOver(t, server, path, certificate, by)
	}
	uri, err := url.Parse("spiffe://example.com/node")
	if err != nil {
		t.Fatal(err)
	}
	builder := func() *x509.Certificate { return &x509.Certificate{Subject: pkix.Name{CommonName: "builder"}} }
	for name, c := range map[string]struct {
		certificate *tls.Certificate
		by          proof
		tool, app   int
		secret      int
	}{
		"none":                {nil, nobody, 401, 401, 401},
		"common name":         {good.issue(builder()), nobody, 200, 403, 403},
		"DNS name":            {good.issue(&x509.Certificate{DNSNames: []string{"x.example.com", "node.example.com"}}), nobody, 403, 200, 403},
		"URI":                 {good.issue(&x509.Certificate{URIs: []*url.URL{uri}}), nobody, 403, 403, 200},
		"email":               {good.issue(&x509.Certificate{EmailAddresses: []string{"ops@example.com"}}), nobody, 200, 200, 403},
		"no known name":       {good.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "Builder"}}), nobody, 401, 401, 401},
		"another authority":   {other.issue(builder()), nobody, -1, -1, -1},
		"a password besides":  {good.issue(builder()), basic("alice", alicePassword), 403, 200, 403},
		"a wrong one besides": {good.issue(builder()), basic("alice", "wrong"), 401, 401, 401},
	} {
		for path, want := range map[string]int{"/v2/team/tool/manifests/v1": c.tool, "/v2/team/app/manifests/v1": c.app, "/v2/secret/plan/manifests/v1": c.secret} {
			if got := get(path, c.certificate, c.by); got != want {
				t.Errorf("%s: %s: status %d, want %d", name, path, got, want)
			}
		}
	}
	certificate := good.issue(builder())
	if got := get("/v2/", certificate, nobody); got != 200 {
		t.Errorf("/v2/: status %d", got)
	}
	if got := get("/token?scope="+pull("team/tool"), certificate, nobody); got != 200 {
		t.Errorf("/token: status %d", got)
	}
	s.gate.SetPolicy(t.Context(), &inbound.Policy{Certificates: []inbound.Grant{{Name: inbound.Anyone, Pull: inbound.Patterns{"team/app"}}}}, s.keys)
	for path, want := range map[string]int{"/v2/team/app/manifests/v1": 200, "/v2/team/tool/manifests/v1": 403} {
		if got := get(path, certificate, nobody); got != want {
			t.Errorf("%s with any certificate: status %d, want %d", path, got, want)
		}
		if got := get(path, nil, nobody); got != 401 {
			t.Errorf("%s without one: status %d, want 401", path, got)
		}
	}
}
