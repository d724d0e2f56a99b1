package main

import (
	"crypto/tls"
	"os"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/upstream"
)

// clientCertConfig names the files of the certificate that is shown to an upstream host.
type clientCertConfig struct {
	position
	cert, key word
}

// read returns the read of a clientCert section.
func (c *clientCertConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		c.position = pos
		r.fields(n, pos, map[string]read{"cert": r.word(&c.cert), "key": r.word(&c.key)})
		r.require(pos, "cert", c.cert)
		r.require(pos, "key", c.key)
	}
}

// clientCertificate returns what shows the certificate of an upstream host, or nil if it has
// none. Files that cannot be read are a mistake.
func (u upstreamConfig) clientCertificate(found *mistakes) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c := u.clientCert
	switch {
	case c.cert.text == "" || c.key.text == "":
		return nil // a part that is missing was noted when it was read
	case u.plainHTTP:
		found.add(c.position, "makes no sense with plainHTTP: there is no TLS to show it in")
		return nil
	}
	pair := &keyPair{cert: c.cert.text, key: c.key.text}
	if _, err := pair.get(nil); err != nil {
		found.add(c.position, "%v", err)
	}
	return pair.get
}

// keyPair is a certificate in two files, which are read again after they have changed. It is
// safe for concurrent use.
type keyPair struct {
	cert, key string

	mu      sync.Mutex
	current *tls.Certificate
	states  [2]fileState // of the files when they were read
}

// fileState tells whether a file has changed.
type fileState struct {
	changed time.Time
	size    int64
}

// get returns the certificate. Files of which one is replaced already and the other is not
// yet do not fit together: then the former certificate is good until they do.
func (k *keyPair) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var states [2]fileState
	for i, file := range [...]string{k.cert, k.key} {
		if info, err := os.Stat(file); err == nil {
			states[i] = fileState{info.ModTime(), info.Size()}
		}
	}
	if k.current != nil && states == k.states {
		return k.current, nil
	}
	pair, err := tls.LoadX509KeyPair(k.cert, k.key)
	if err == nil {
		k.current, k.states = &pair, states
	}
	if k.current != nil {
		return k.current, nil
	}
	return nil, err
}

// sameClientCerts reports whether two files name the same files of client certificates.
func sameClientCerts(a, b []upstreamConfig) bool {
	names := func(list []upstreamConfig) map[string][2]string {
		all := map[string][2]string{}
		for _, u := range list {
			all[host(u.host.text)] = [2]string{u.clientCert.cert.text, u.clientCert.key.text}
		}
		return all
	}
	x, y := names(a), names(b)
	for host, files := range x {
		if y[host] != files {
			return false
		}
	}
	return len(x) == len(y)
}

// closeIdle closes connections that nobody uses, if any of them may have shown a certificate
// that has been replaced since.
func closeIdle(c *upstream.Client) {
	for _, h := range c.Hosts {
		if h.ClientCertificate != nil {
			c.CloseIdleConnections()
			return
		}
	}
}
