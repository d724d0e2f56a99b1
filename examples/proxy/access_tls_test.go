package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// clientPair makes an authority in a file and a client certificate of it.
func clientPair(t *testing.T, file, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	one := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, one, one, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestClientCertificate: with clientCA, only clients with a certificate of that authority come in. The files of
// both sides take effect when they change.
func TestClientCertificate(t *testing.T) {
	up, dir := upstreamtest.NewRegistry(t), t.TempDir()
	up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	cert, key, ca := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	writeCertificate(t, cert, key)
	first := clientPair(t, ca, "builder")
	p := startProxy(t, file(up, fmt.Sprintf("tls: {cert: %q, key: %q, clientCA: %q}", cert, key, ca), "access: {certificates: [{name: builder, pull: [local/team/*]}]}"))
	serial := ""
	get := func(certificate ...tls.Certificate) int {
		c := client()
		c.Transport = &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificate}, ForceAttemptHTTP2: true}
		resp, err := c.Get(p.url + "/v2/local/team/app/manifests/v1")
		if err != nil {
			return -1
		}
		resp.Body.Close()
		serial = string(resp.TLS.PeerCertificates[0].Raw)
		if resp.ProtoMajor != 2 {
			t.Errorf("%s is spoken, want HTTP/2", resp.Proto)
		}
		return resp.StatusCode
	}
	if got := get(first); got != 200 {
		t.Errorf("with a certificate: status %d", got)
	}
	if got := get(); got != -1 {
		t.Errorf("without one: status %d", got)
	}
	second := clientPair(t, ca, "builder")
	writeCertificate(t, cert, key)
	before := serial
	p.until(t, "the new authority", func() bool { return get(second) == 200 })
	if serial == before {
		t.Error("the proxy shows its former certificate")
	}
	if got := get(first); got != -1 {
		t.Errorf("with a certificate of the former authority: status %d", got)
	}
	writeText(t, cert, "no certificate")
	p.until(t, "the mistake in the log", func() bool { return strings.Contains(p.log.String(), "the certificate has changed and cannot be read") })
	if got := get(second); got != 200 {
		t.Errorf("after a mistake: status %d", got)
	}
	p.signal(t)
	p.wantExit(t, exitOK)
}
