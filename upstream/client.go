package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pullthrough/pullthrough/auth"
)

// Client opens repositories of OCI registries. The zero value works. Fields
// must not change after first use; it is then safe for concurrent use.
type Client struct {
	// Hosts says what is special about a host, by its canonical name. A host
	// that is named here may lie anywhere but at a metadata address.
	Hosts map[string]Host
	// UserAgent is sent with every request. If empty, "pullthrough".
	UserAgent string
	// Answer is how long an upstream may take to send a header. If zero, 20 s.
	Answer time.Duration
	// Dial opens connections. If nil, a net.Dialer that checks every address it
	// dials: what an upstream names, as a redirect or a token server, may not
	// lie deeper inside the network than the upstream itself, and link-local
	// and metadata addresses are never dialled. A Dial of yours is trusted. With
	// an HTTP proxy (HTTPS_PROXY, NO_PROXY) the proxy's address is the one that
	// is dialled, so only literal addresses are checked.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu         sync.Mutex
	transports map[string]*guard
}

// Host is what is special about a host.
type Host struct {
	// PlainHTTP says that the host speaks http. Without it only https is
	// spoken, whatever the host says.
	PlainHTTP bool
	// RootCAs verifies the host and what it redirects to. If nil, the system's.
	RootCAs *x509.CertPool
	// Realms are the hosts, besides itself and those that are known for it,
	// whose token server may see the credential.
	Realms []string
}

// Open returns the repository of s. It does no I/O.
func (c *Client) Open(s Source, a auth.Authenticator) (Repository, error) {
	if s.Host == "" || s.Repository == "" {
		return nil, fmt.Errorf("upstream: rule %q: source %q lacks a host or a repository", s.Rule, s)
	}
	if a == nil {
		a = auth.Anonymous{}
	}
	scheme := "https"
	if c.Hosts[s.Host].PlainHTTP {
		scheme = "http"
	}
	return &repository{client: c, source: s, auth: a, scheme: scheme, host: dialHost(s.Host), guard: c.guard(s.Host)}, nil
}

// dialHost is the host that answers for a canonical one.
func dialHost(host string) string {
	if host == "docker.io" {
		return "registry-1.docker.io"
	}
	return host
}

// maxTransports bounds the pools of connections; beyond, the oldest idle
// connections are closed with their pool.
const maxTransports = 1024

// guard returns the connections that belong to one upstream host. They are not
// shared with other hosts, since what may be dialled depends on the host.
func (c *Client) guard(host string) *guard {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.transports[host]; g != nil {
		return g
	}
	if c.transports == nil || len(c.transports) >= maxTransports {
		for _, g := range c.transports {
			g.transport.CloseIdleConnections()
		}
		c.transports = map[string]*guard{}
	}
	g := &guard{client: c, canonical: host, host: dialHost(host)}
	answer := c.Answer
	if answer <= 0 {
		answer = 20 * time.Second
	}
	g.transport = &http.Transport{
		Proxy: g.proxy, DialContext: g.dial,
		TLSClientConfig:     &tls.Config{RootCAs: c.Hosts[host].RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: answer,
		DisableCompression: true, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: 16, MaxIdleConns: 64, IdleConnTimeout: 90 * time.Second,
		ReadBufferSize: 64 << 10, MaxResponseHeaderBytes: 1 << 20,
	}
	c.transports[host] = g
	return g
}

// repository is one upstream repository as one rule sees it. Its tokens are its
// own: they are kept by nothing else and are lost with it.
type repository struct {
	client *Client
	source Source
	auth   auth.Authenticator
	scheme string
	host   string
	guard  *guard

	mu      sync.Mutex
	version string
	session *orasauth.Client
}

// Origin returns scheme://host, with the canonical host.
func (r *repository) Origin() string { return r.scheme + "://" + r.source.Host }

// credential is what oras-go shows to a token server, for our host only.
func (r *repository) credential(c auth.Credential) orasauth.CredentialFunc {
	return func(_ context.Context, host string) (orasauth.Credential, error) {
		if host != r.host {
			return orasauth.EmptyCredential, nil
		}
		return orasauth.Credential{
			Username: c.Username, Password: c.Password.Reveal(),
			RefreshToken: c.RefreshToken.Reveal(), AccessToken: c.AccessToken.Reveal(),
		}, nil
	}
}

// login returns the session of a credential: new tokens for a new version.
func (r *repository) login(c auth.Credential, again bool) *orasauth.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session == nil || r.version != c.Version || again {
		ua := r.client.UserAgent
		if ua == "" {
			ua = "pullthrough"
		}
		r.version = c.Version
		r.session = &orasauth.Client{
			Client: &http.Client{Transport: r.guard, CheckRedirect: r.guard.redirect}, Cache: orasauth.NewCache(), Credential: r.credential(c), ClientID: ua,
			Header: http.Header{"User-Agent": {ua}},
			// Realms are checked by guard, before anything is sent.
			BlockedRealmPrefixes: []netip.Prefix{},
		}
	}
	return r.session
}

// realms are the token servers that are known for a registry, beside itself.
func realms(host string) []string {
	switch {
	case host == "docker.io":
		return []string{"auth.docker.io"}
	case host == "registry.gitlab.com":
		return []string{"gitlab.com"}
	case host == "nvcr.io":
		return []string{"authn.nvidia.com"}
	case strings.HasSuffix(host, ".pkg.dev"), host == "gcr.io", strings.HasSuffix(host, ".gcr.io"):
		return []string{host}
	}
	return nil
}
