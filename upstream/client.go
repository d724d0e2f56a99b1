package upstream

import (
	"context"
	"crypto/tls"
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
	DefaultUserAgent     = "pullthrough"
	DefaultDialTimeout   = 10 * time.Second
	DefaultAnswerTimeout = 20 * time.Second
	DefaultTotalTimeout  = 60 * time.Second
)

// Client opens repositories of registries that speak the OCI distribution
// protocol. Its zero value works. It is safe for concurrent use; its fields
// must not change after first use and are never written. A Client must not be
// copied.
//
// Credentials. A token belongs to one rule, one host and one version of a
// credential, and is used for no other. A credential is sent to the host of its
// rule and to the token servers that are known or listed for that host, and to
// no other host, even if a challenge or a redirect points there. A rule without
// a credential has no secret to lose: it takes an anonymous token from any token
// server that the rules for addresses allow. So does a request that a redirect
// leads to another registry, which is sent that token and no secret of the rule.
//
// Addresses. The host of a rule may have any address but a link-local one or that
// of a metadata service. A host that an upstream names, in a redirect or as a
// token server, must not lie deeper inside the network than that upstream: a
// public host may lead to public addresses only, and one in a private network
// not to loopback, unless its entry in Hosts lists the other host (Redirects,
// Realms). A host must be written in ASCII and in its usual form: it is refused if
// net/http, a proxy or a resolver might read it as another one. Addresses are
// checked when they are dialled, so a name that is resolved anew gains nothing.
// An HTTP proxy dials by itself: behind one, only addresses that are written in
// URLs can be checked, and the proxy must refuse all others.
type Client struct {
	// Hosts says what is special about single hosts. Its keys are canonical hosts:
	// in lower case, without a trailing dot, with a port if it is not 443, and
	// "docker.io" for Docker Hub. A host without an entry is asked over https, with
	// the authorities of the system, and has no token server elsewhere but those
	// that are known. An entry is about its host as that of a rule: whether other
	// upstreams may lead there is decided by the rules for addresses and by the
	// entries of those upstreams.
	Hosts map[string]Host
	// Proxy returns the proxy for a request, and is called once for each. If nil,
	// the environment decides: HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
	Proxy func(*http.Request) (*url.URL, error)
	// Dial opens connections. If nil, the Client uses a [net.Dialer]. The remote
	// address of a connection is checked before anything is sent. The address at
	// the far end of a tunnel cannot be checked: a Dial that opens tunnels must
	// itself refuse addresses that should not be reached.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Transport replaces everything below HTTP: Proxy, Dial, DialTimeout,
	// AnswerTimeout, RootCAs, ClientCertificate.
	// If nil, the Client has its own. DANGER: if it is set, only addresses that are
	// written in URLs are checked, and not those that names resolve to. It must
	// not follow redirects or decode bodies.
	Transport http.RoundTripper
	// WrapTransport returns a RoundTripper around the one that sends each request to an
	// upstream and to its token servers: to trace, measure or delay. If nil, or if it
	// returns nil, nothing is wrapped. It is called once, before the first request.
	//
	// What it returns must be safe for concurrent use and should send the requests that
	// it is given by the RoundTripper that it was given. It may add headers. A request
	// that it passes on with another method, URL, Host or Authorization is refused, so
	// a credential cannot get to another host, and the rules for addresses hold as they
	// do without a wrapper. DANGER: it sees the credentials in the headers and bodies of
	// requests, the tokens in the bodies of responses, and signatures in the URLs of
	// redirects. It must not follow redirects or decode bodies.
	WrapTransport func(http.RoundTripper) http.RoundTripper
	// Observe is told of each call by which one of its Repositories asked an upstream,
	// once, when the call has ended: of a blob, when its [Body] is closed. It is called
	// on the goroutine that ends the call, which waits for it to return, so it should
	// be quick. It must be safe for concurrent use. If nil, nothing is told.
	Observe func(Call)
	// UserAgent is sent with every request. If empty, DefaultUserAgent.
	UserAgent string
	// DialTimeout is the time limit for connecting, and again for the TLS handshake
	// after it. If zero, DefaultDialTimeout.
	DialTimeout time.Duration
	// AnswerTimeout is the time limit for the header of each response, from when its
	// request was written. If zero, DefaultAnswerTimeout. A caller may set another limit
	// for its own calls by [WithAnswerTimeout]; package cache does, with its own.
	AnswerTimeout time.Duration
	// TotalTimeout is the time limit for a whole call: tokens, redirects and the body
	// of a manifest or list, but not the content of a blob. If zero,
	// DefaultTotalTimeout.
	TotalTimeout time.Duration

	once   sync.Once
	engine *engine
}

// Host is what is special about one host.
type Host struct {
	// PlainHTTP asks the host over http. DANGER: credentials and content travel
	// in the open.
	PlainHTTP bool
	// RootCAs are the authorities that are trusted for this host, and for those of
	// its token servers, known or listed in Realms, that have no entry of their own.
	// If nil, the authorities of the system are trusted.
	RootCAs *x509.CertPool
	// ClientCertificate returns the certificate that is shown to this host when it asks
	// for one, and to those of its token servers, known or listed in Realms, that have no
	// entry of their own. It is a credential of all rules for this host: nobody else sees
	// it, and neither does this host when another upstream leads to it. It is called for
	// each new connection, so a certificate that was replaced is used from the next one
	// on, and must be safe for concurrent use. An error fails the request. If it is nil,
	// or returns nil, no certificate is shown.
	ClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// Realms are further hosts, in canonical form, that may issue tokens for
	// this host. The credentials of its rules are sent to them. Rules without a
	// credential need no such list.
	Realms []string
	// Redirects are further hosts, in canonical form, to which this host may lead
	// whatever their addresses are, except for link-local and metadata addresses.
	// No credential is sent to them. If nil, only the rules for addresses decide.
	Redirects []string
	// AnyUpstream lets every upstream lead to this host, whatever its address is.
	// DANGER: a public upstream can then make the Client send requests to a host
	// inside the network, and the readers of that upstream see what the host serves
	// without a credential. If false, only upstreams that list the host in their
	// entry may lead there.
	AnyUpstream bool
}

// CloseIdleConnections closes the connections that no request uses.
func (c *Client) CloseIdleConnections() { c.resolve().pool.closeIdle() }

// Open returns the repository of s, which is asked with the credential of a. If a is
// nil, it is asked anonymously. The Host must be canonical and the Repository a legal
// name. Open does no I/O.
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
