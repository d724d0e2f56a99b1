package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
)

// certificateFor returns the host in whose entry the certificate is that is shown to
// host, in canonical form, and how to get it: that of the rule's host, or, to a server
// which may issue tokens for that and is asked for one, its own or else that of the
// rule's host. If name is empty, none is shown. A host to which an upstream leads sees
// none, whatever its entry is: the upstream would say what is read there with it.
func (p *hostPolicy) certificateFor(host string, forToken bool) (name string, get certificateGetter) {
	name = p.host
	if host != p.host {
		if !forToken || !p.mayIssueTokens(host) {
			return "", nil
		}
		if _, ok := p.hosts[host]; ok {
			name = host
		}
	}
	if get = p.hosts[name].ClientCertificate; get == nil {
		return "", nil
	}
	return name, get
}

// certificateGetter is a [Host.ClientCertificate].
type certificateGetter func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

// certificateError reports that a [Host.ClientCertificate] failed.
type certificateError struct{ err error }

func (e *certificateError) Error() string {
	return "the client certificate cannot be had: " + e.err.Error()
}
func (e *certificateError) Unwrap() error { return e.err }

// forTLS returns what crypto/tls calls, which takes no nil certificate.
func (get certificateGetter) forTLS() func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := get(r)
		switch {
		case err != nil:
			return nil, &certificateError{err}
		case cert == nil:
			return &tls.Certificate{}, nil
		}
		return cert, nil
	}
}

// dialProxyTLS returns a function that opens connections to proxies of https, for a
// transport with a client certificate: net/http would show that to the proxy too.
func (p *transportPool) dialProxyTLS(key poolKey) func(context.Context, string, string) (net.Conn, error) {
	dial := p.dialer(key.limit)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, p.dialTimeout)
		defer cancel()
		secure := tls.Client(c, &tls.Config{RootCAs: key.roots, MinVersion: tls.VersionTLS12, ServerName: host})
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, err
		}
		return secure, nil
	}
}

// isSecure reports whether a proxy is spoken to by TLS.
func isSecure(proxy *url.URL) bool { return proxy != nil && proxy.Scheme == "https" }
