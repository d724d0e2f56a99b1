package fleet_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: date(1990), NotAfter: date(2200)})
	return a
}

func date(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

// sign makes a certificate, which signs itself if there is no other one yet.
func (a *authority) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = c, key
	}
	c.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		a.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return c, key
}

// issue returns a certificate that is good for a use until the beginning of a year.
func (a *authority) issue(use x509.ExtKeyUsage, until int) tls.Certificate {
	a.t.Helper()
	c, key := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "replica"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{use}, KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: date(1990), NotAfter: date(until),
	})
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// server is the configuration of a peer listener.
func (a *authority) server(proof tls.ClientAuthType) *tls.Config {
	a.t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{a.issue(x509.ExtKeyUsageServerAuth, 2200)}, ClientAuth: proof, ClientCAs: a.pool()}
}

// client is the configuration with which a replica asks the others.
func (a *authority) client() *tls.Config {
	a.t.Helper()
	return &tls.Config{RootCAs: a.pool(), Certificates: []tls.Certificate{a.issue(x509.ExtKeyUsageClientAuth, 2200)}}
}

// provedBy makes certificates the proof of a replica.
func (a *authority) provedBy(r *replica, proof tls.ClientAuthType) {
	a.t.Helper()
	r.Fleet.TLS, r.Fleet.Trust, r.Fleet.Secret, r.Fleet.Insecure = a.client(), fleet.ClientCertificate, nil, false
	r.serverTLS = a.server(proof)
}

// Replicas that know one another by their certificates share, without a secret.
func TestCertificatesAreEnough(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	ca := newAuthority(t)
	all := fleetOf(t, up, 3, func(_ int, r *replica) { ca.provedBy(r, tls.RequireAndVerifyClientCert) })
	received := int64(0)
	for i := uint64(0); received == 0 && i < 100; i++ { // on a busy machine replicas may seem dead
		body := upstreamtest.Bytes(i, 100<<10)
		pullAll(t, all, 1, up.AddBlob("team/app", body), body)
		for _, r := range all {
			received += r.Fleet.Stats().BytesReceived
		}
	}
	if received == 0 {
		t.Error("no replica gets anything from another one")
	}
	for _, r := range all {
		if s := r.Fleet.Stats(); s.Strangers != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// Whose certificate does not prove that it is a replica gets nothing, whatever the listener
// makes of such certificates, and nothing is looked up for it.
func TestCertificatesOfStrangers(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	d := up.AddBlob("team/app", []byte("blob"))
	ca := newAuthority(t)
	replicas := ca.issue(x509.ExtKeyUsageClientAuth, 2200)
	strangers := map[string]tls.Certificate{
		"no certificate":                {},
		"that of another authority":     newAuthority(t).issue(x509.ExtKeyUsageClientAuth, 2200),
		"one that has expired":          ca.issue(x509.ExtKeyUsageClientAuth, 2000),
		"one that is for servers alone": ca.issue(x509.ExtKeyUsageServerAuth, 2200),
	}
	for proof, verifies := range map[tls.ClientAuthType]bool{
		tls.RequireAndVerifyClientCert: true, tls.VerifyClientCertIfGiven: true, tls.RequireAnyClientCert: false, tls.RequestClientCert: false, tls.NoClientCert: false,
	} {
		var rules counting
		r := fleetOf(t, up, 1, func(_ int, r *replica) {
			ca.provedBy(r, proof)
			rules.Matcher, r.Cache.Rules = r.rules, &rules
		})[0]
		match, err := r.rules.Match(t.Context(), "mirror/app")
		if err != nil {
			t.Fatal(err)
		}
		ask := func(cert tls.Certificate, method, path string) (status int, body string, err error) {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }}}
			defer transport.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), method, "https://"+r.address+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range map[string]string{"Pullthrough-Peer": "127.0.0.1:1", "Pullthrough-Source": "team " + match.Source.String(), "Cdn-Loop": "fleet.example.com"} {
				req.Header.Set(k, v)
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				return 0, "", err
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			return resp.StatusCode, string(got), err
		}
		blob := "/fleet/v1/mirror/app/blobs/" + d.String()
		for name, cert := range strangers {
			for path, method := range map[string]string{blob: "GET", blob + "?": "HEAD", "/fleet/v1/ping": "GET", "/fleet/v1/copies": "POST", "/fleet/v1/forget": "POST"} {
				if status, body, err := ask(cert, method, path); err == nil && status != http.StatusUnauthorized || body != "" {
					t.Errorf("%v, %s: %s %s is answered %d %q", proof, name, method, path, status, body)
				}
			}
		}
		if status, body := plainly(t, r.address); status != http.StatusBadRequest && status != 0 {
			t.Errorf("without TLS: %d %q", status, body)
		}
		if n := rules.asked.Load(); n != 0 {
			t.Errorf("%v: rules were asked %d times for strangers", proof, n)
		}
		up.WantRequests()
		status, body, err := ask(replicas, "GET", blob)
		if want := map[bool]int{true: 200, false: 401}[verifies]; err != nil || status != want || (body == "blob") != verifies {
			t.Errorf("%v: a replica is answered %d %q, %v", proof, status, body, err)
		}
		up.Reset()
	}
}

// plainly asks a TLS listener without TLS.
func plainly(t *testing.T, address string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/fleet/v1/ping", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	got, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(got)
}

// Who listens at the address of a replica, with the certificate of another authority, hears
// neither the secret nor a question.
func TestImpostorHearsNothing(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	body := upstreamtest.Bytes(1, 100<<10)
	d := up.AddBlob("team/app", body)
	ca := newAuthority(t)
	var heard, tried atomic.Int64
	impostor := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard.Add(1) }))
	impostor.Config.ErrorLog = log.New(io.Discard, "", 0)
	impostor.TLS = newAuthority(t).server(tls.NoClientCert)
	impostor.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		tried.Add(1)
		return nil, nil
	}
	impostor.StartTLS()
	defer impostor.Close()
	all := fleetOf(t, up, 1, func(_ int, r *replica) {
		r.Fleet.TLS, r.Fleet.Insecure = ca.client(), false
		r.Fleet.Peers = fleet.Static(r.address, impostor.Listener.Addr().String())
	})
	pullAll(t, all, 1, d, body)
	if heard.Load() != 0 || tried.Load() == 0 {
		t.Errorf("it was tried %d times, and heard %d requests", tried.Load(), heard.Load())
	}
}
