package upstream

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/ociname"
)

// Defaults of [Client].
const (
	DefaultUserAgent   = "pullthrough"
	DefaultDialTimeout = 10 * time.Second
	DefaultAnswer      = 20 * time.Second
	DefaultTotal       = 60 * time.Second
)

// Client opens repositories of registries that speak the OCI distribution
// protocol. Its zero value works. It is safe for concurrent use; its fields
// must not change after first use and are never written. A Client must not be
// copied.
//
// What one rule earns is kept from all others: tokens belong to a rule, a host
// and one version of a credential. A credential goes to the host of its rule
// and to the token server that is allowed for that host, to no other place:
// not where a challenge or a redirect points. A rule without a credential has
// nothing to lose, so it takes an anonymous token from any token server that the
// rules for addresses allow; and so does every request that a redirect leads to
// another registry, which is shown that token and nothing of the rule's.
//
// Addresses. The host of a rule may lie anywhere but on a link-local or
// metadata address. A host that an upstream names (a token server, a redirect)
// may not lie deeper inside than the upstream that named it: what is public
// leads only to what is public, what is private not to loopback, unless the entry
// of that upstream in Hosts lists it (Redirects, Realms). It must be written in
// ASCII, and as hosts are usually written: what net/http, a proxy or a resolver
// might read as another host is refused. The address is checked as it is dialled,
// so a name that changes its mind gains nothing. Behind an HTTP proxy, which dials
// for itself, only addresses written in URLs can be checked; the proxy must hold
// back the rest.
type Client struct {
	// Hosts says what is special about single hosts, by canonical host: lower
	// case, no trailing dot, with a port if it is not 443, "docker.io" for
	// Docker Hub. If nil, nothing is: https, the system's roots, no foreign
	// token server. An entry is about the host as that of a rule: other upstreams
	// may lead to it only as far as the rules for addresses allow, or as their own
	// entry lists it.
	Hosts map[string]Host
	// Proxy returns the proxy for a request, and is asked once for each. If nil,
	// HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment hold.
	Proxy func(*http.Request) (*url.URL, error)
	// Dial opens connections instead of a [net.Dialer]. If nil, the Client dials
	// itself. The address that a connection of Dial reached is checked before
	// anything is sent; one that a tunnel hides is not, so a Dial of yours must
	// itself refuse what lies behind the tunnel and should not be reached.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Transport replaces everything below HTTP: Proxy, Dial, timeouts, RootCAs.
	// If nil, the Client has its own. DANGER: with a Transport of yours only
	// addresses written in URLs are checked; those that names stand for are not.
	// It must not follow redirects or decode bodies.
	Transport http.RoundTripper
	// UserAgent is sent with every request. If empty, DefaultUserAgent.
	UserAgent string
	// DialTimeout bounds connecting, and the TLS handshake after it. If zero,
	// DefaultDialTimeout.
	DialTimeout time.Duration
	// Answer bounds the wait for the header of each answer. If zero,
	// DefaultAnswer.
	Answer time.Duration
	// Total bounds everything but the content of blobs: tokens, redirects and
	// the whole of a manifest or list. If zero, DefaultTotal.
	Total time.Duration

	once   sync.Once
	engine *engine
}

// Host is what is special about one host.
type Host struct {
	// PlainHTTP asks the host over http. DANGER: credentials and content travel
	// in the open.
	PlainHTTP bool
	// RootCAs are the authorities trusted for this host, and for the token
	// servers that are known or listed as Realms for it and have no entry of
	// their own. If nil, the system's.
	RootCAs *x509.CertPool
	// Realms are further hosts, in canonical form, that may issue tokens for
	// this host. They are shown its credentials. A rule without a credential
	// needs none.
	Realms []string
	// Redirects are further hosts, in canonical form, that this host may lead to
	// wherever they lie, link-local and metadata addresses excepted. They are shown
	// no credential. If nil, the rules for addresses decide alone.
	Redirects []string
	// AnyUpstream lets every upstream lead to this host, wherever it lies. DANGER: a
	// public upstream can then make the Client ask a host inside, and its readers
	// see what that answers to everybody. If false, only upstreams whose entry lists
	// the host lead there.
	AnyUpstream bool
}

// CloseIdleConnections closes the connections that no request uses.
func (c *Client) CloseIdleConnections() { c.resolve().pool.closeIdle() }

// Open returns the repository of s as a proves itself there; a nil a is
// anonymous. The Host must be canonical and the Repository a legal name. It
// does no I/O.
func (c *Client) Open(s Source, a auth.Authenticator) (Repository, error) {
	if ociname.FoldHost(s.Host) != s.Host || !ociname.ValidURLHost(s.Host) {
		return nil, fmt.Errorf("upstream: rule %q: %q is not a canonical host", s.Rule, s.Host)
	}
	// What is no name never becomes part of a URL.
	if !ociname.ValidRepository(s.Repository, ociname.MaxRepository) {
		return nil, fmt.Errorf("upstream: rule %q: %q is not a repository name", s.Rule, s.Repository)
	}
	if a == nil {
		a = auth.Anonymous{}
	}
	return c.resolve().repository(s, a), nil
}
