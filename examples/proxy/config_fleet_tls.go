package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/cache/fleet"
)

// minPeerSecret is how many characters the secret of a fleet must have.
const minPeerSecret = 16

// readProof returns the secret of the replicas. It is read once: what it is cannot change while
// this replica runs.
func (f fleetConfig) readProof(found *mistakes) string {
	if f.secret.line == 0 {
		return ""
	}
	secret := f.secret.secret(nil, word{}, found)
	if secret == nil {
		return "" // noted when it was read
	}
	text, _, err := secret.Read(context.Background())
	switch {
	case err != nil:
		found.add(f.secret.position, "%s", plain(err))
	case len(text.Reveal()) < minPeerSecret:
		found.add(f.secret.position, "has %d characters and could be guessed; it needs %d at least, such as those of: openssl rand -hex 32", len(text.Reveal()), minPeerSecret)
	case strings.ContainsFunc(text.Reveal(), func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		found.add(f.secret.position, "has a blank or a character beyond ASCII in it, which a header cannot carry; make one with: openssl rand -hex 32")
	}
	return text.Reveal()
}

// checkProof notes a fleet that strangers could read.
func (f fleetConfig) checkProof(found *mistakes) {
	if f.secret.line == 0 && !f.tls.ca.given() {
		found.add(f.position, "needs secret, or tls with a ca: without one of them, anyone who reaches %s could read every blob that a rule covers", f.listen.text)
	}
	switch {
	case f.tls.line == 0 && !f.insecure:
		found.add(f.position, "needs tls: without it, the secret and all content can be read on their way; write insecure: true if nobody else can reach that network")
	case f.tls.line != 0 && f.insecure:
		found.add(f.plain, "contradicts tls: remove one of them")
	}
}

// peerTLS returns the TLS of the replicas, or nil if they speak plain HTTP.
func (f fleetConfig) peerTLS(found *mistakes) *peerTLS {
	if f.tls.cert.text == "" || f.tls.key.text == "" {
		return nil
	}
	t := &peerTLS{name: f.tls.name.text, pair: &keyPair{cert: f.tls.cert.text, key: f.tls.key.text}}
	if _, err := t.pair.get(nil); err != nil {
		found.add(f.tls.position, "%v", err)
	}
	if f.tls.ca.text != "" {
		t.ca = &authorities{path: f.tls.ca.text}
		if _, err := t.ca.get(); err != nil {
			found.add(f.tls.ca.position, "%v", err)
		}
	}
	return t
}

// peerTLS is how replicas prove themselves to one another. Its files are read again after they
// have changed.
type peerTLS struct {
	pair *keyPair
	ca   *authorities // nil: those of the system, and nobody shows a client certificate
	name string       // in every certificate; if empty, it is the host that is asked
}

// server returns the TLS of the listener. A client without a certificate gets 401, and one with a
// certificate that ca did not issue no connection.
func (t *peerTLS) server() *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.pair.get(nil) },
	}
	if t.ca == nil {
		return c
	}
	c.ClientAuth = tls.VerifyClientCertIfGiven
	base := c.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool, err := t.ca.get()
		one := base.Clone()
		one.ClientCAs, one.NextProtos = pool, []string{"http/1.1"}
		return one, err
	}
	return c
}

// client returns the TLS of a connection to another replica.
func (t *peerTLS) client() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: t.name}
	if t.ca == nil {
		return c, nil
	}
	var err error
	c.RootCAs, err = t.ca.get()
	c.GetClientCertificate = t.pair.get
	return c, err
}

// trusts reports whether a request comes from a replica.
func (t *peerTLS) trusts(r *http.Request) bool {
	return fleet.ClientCertificate(r) && (t.name == "" || r.TLS.PeerCertificates[0].VerifyHostname(t.name) == nil)
}

// peerTimeout is how long a connection to another replica may take. They are near.
const peerTimeout = 2 * time.Second

// transport sends requests to other replicas, each connection with what the files have by then.
func (t *peerTLS) transport() http.RoundTripper {
	h := fleet.NewTransport(nil)
	h.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		config, err := t.client()
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, peerTimeout)
		defer cancel()
		return (&tls.Dialer{Config: config}).DialContext(ctx, network, address)
	}
	return h
}

// authorities are the certificates in a file, which is read again after it has changed. It is
// safe for concurrent use.
type authorities struct {
	path string

	mu      sync.Mutex
	current *x509.CertPool
	state   fileState // of the file when it was read
}

// get returns the certificates. While the file cannot be read, the former ones are good.
func (a *authorities) get() (*x509.CertPool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var state fileState
	if info, err := os.Stat(a.path); err == nil {
		state = fileState{info.ModTime(), info.Size()}
	}
	if a.current != nil && state == a.state {
		return a.current, nil
	}
	pool, err := readPool(a.path)
	if err == nil {
		a.current, a.state = pool, state
	}
	if a.current != nil {
		return a.current, nil
	}
	return nil, err
}
