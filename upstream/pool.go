package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/pullthrough/pullthrough/internal/netdepth"
)

const (
	// maxIdlePerHost is how many connections to one host are kept for the next request.
	// It is more than package cache has requests and downloads under way at one host by
	// its defaults, so that a storm of small ones does not dial for each.
	maxIdlePerHost = 128
	// maxIdle is the same for all hosts that share a [poolKey]: those of all tenants,
	// unless the embedder gave them authorities of their own.
	maxIdle = 256
	// maxTransports is how many transports may keep connections.
	maxTransports = 16
	// idleTimeout is how long a connection is kept.
	idleTimeout = 90 * time.Second
)

// transportPool holds the transports of a [Client], at most one for each [poolKey] and
// at most maxTransports. It is safe for concurrent use.
type transportPool struct {
	replaced    http.RoundTripper // Client.Transport; if nil, the pool makes its own transports
	proxy       func(*http.Request) (*url.URL, error)
	dial        func(ctx context.Context, network, address string) (net.Conn, error) // Client.Dial; if nil, the pool dials itself
	dialTimeout time.Duration

	mu   sync.Mutex
	uses uint64 // of all transports
	open map[poolKey]*pooled
}

// pooled is a transport of a pool.
type pooled struct {
	*http.Transport
	used uint64 // transportPool.uses at its last use
}

// poolKey separates connections that were opened under different conditions: one to a
// private address must not be reused by a request that may go to public ones only.
type poolKey struct {
	limit   netdepth.Depth
	roots   *x509.CertPool
	proxied bool
	own     bool // of calls that share no connection
	// certificate is the host in whose entry the client certificate is that was shown on
	// the connections, and secureProxy whether they pass a proxy by TLS, which sees none.
	certificate string
	secureProxy bool
}

// get returns the transport for a request, which may be one for a token, and the proxy
// that it must pass. If proxy is nil, it passes none. No other function asks for the proxy.
func (p *transportPool) get(req *http.Request, g *callGuard, forToken bool) (rt http.RoundTripper, proxy *url.URL, err error) {
	if p.replaced != nil {
		return p.replaced, nil, nil
	}
	if proxy, err = p.proxy(req); err != nil {
		return nil, nil, &cause{text: "the proxy's address cannot be used", err: err}
	}
	key := poolKey{limit: g.dialLimit(req.URL), roots: g.policy.roots(hostOf(req.URL)), proxied: proxy != nil, own: hasOwnConnection(req.Context())}
	if key.proxied {
		key.limit = netdepth.Loopback // it is the proxy that is dialled, and the embedder named it
	}
	var certificate certificateGetter
	key.certificate, certificate = g.policy.certificateFor(hostOf(req.URL), forToken)
	key.secureProxy = key.certificate != "" && isSecure(proxy)
	tr, dropped := p.use(key, certificate)
	if dropped != nil {
		dropped.CloseIdleConnections() // what is under way there is not kept either when it ends
	}
	return tr, proxy, nil
}

// use returns the transport of key, which it makes if there is none; certificate is that
// of the entry that key names. It drops the one
// that was used least recently if there are too many; the caller closes what that keeps,
// without the lock, since the connections may be the embedder's.
func (p *transportPool) use(key poolKey, certificate certificateGetter) (tr, dropped *http.Transport) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uses++
	if have := p.open[key]; have != nil {
		have.used = p.uses
		return have.Transport, nil
	}
	if len(p.open) >= maxTransports {
		var last poolKey
		least := p.uses
		for k, t := range p.open {
			if t.used < least {
				last, least = k, t.used
			}
		}
		dropped = p.open[last].Transport
		delete(p.open, last)
	}
	p.open[key] = &pooled{p.newTransport(key, certificate), p.uses}
	return p.open[key].Transport, dropped
}

type proxyKey struct{}

// withProxy returns a context whose request passes proxy.
func withProxy(ctx context.Context, proxy *url.URL) context.Context {
	return context.WithValue(ctx, proxyKey{}, proxy)
}

// chosenProxy returns the proxy that get chose for a request. Choosing once more could
// give another result: a connection without a proxy would then be made under the limit
// for a connection to a proxy.
func chosenProxy(req *http.Request) (*url.URL, error) {
	proxy, ok := req.Context().Value(proxyKey{}).(*url.URL)
	if !ok {
		return nil, errors.New("upstream: a request without its proxy")
	}
	return proxy, nil
}

// newTransport returns a transport for the requests of one key.
func (p *transportPool) newTransport(key poolKey, certificate certificateGetter) *http.Transport {
	tr := &http.Transport{
		DialContext:            p.dialer(key.limit),
		TLSClientConfig:        &tls.Config{RootCAs: key.roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    p.dialTimeout,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idleTimeout,
		ReadBufferSize:         64 << 10,
		MaxResponseHeaderBytes: 256 << 10,
	}
	if key.proxied {
		tr.Proxy = chosenProxy
	}
	if key.certificate != "" {
		tr.TLSClientConfig.GetClientCertificate = certificate.forTLS()
	}
	if key.secureProxy {
		tr.DialTLSContext = p.dialProxyTLS(key)
	}
	if key.own {
		tr.ForceAttemptHTTP2, tr.Protocols = false, new(http.Protocols)
		tr.Protocols.SetHTTP1(true)
	}
	return tr
}

// dialer returns a function that connects to no address deeper than limit. It checks
// the address itself, after the name has been looked up, and not the name.
func (p *transportPool) dialer(limit netdepth.Depth) func(context.Context, string, string) (net.Conn, error) {
	if p.dial == nil {
		d := &net.Dialer{
			Timeout:   p.dialTimeout,
			KeepAlive: 30 * time.Second,
			ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
				return checkDialled(address, limit)
			},
		}
		return d.DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, p.dialTimeout)
		defer cancel()
		c, err := p.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if err := checkDepth(netdepth.OfRemote(c.RemoteAddr()), limit, dialledAddress); err != nil {
			_ = c.Close()
			return nil, err
		}
		return c, nil
	}
}

// dialledAddress names, in errors, an address that must not be shown itself.
func dialledAddress() string { return "the address that was dialled" }

// checkDialled refuses an address that lies deeper than limit.
func checkDialled(address string, limit netdepth.Depth) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return errAddress
	}
	return checkDepth(netdepth.Of(addr.Addr()), limit, dialledAddress)
}

// closeIdle closes the connections that no request uses.
func (p *transportPool) closeIdle() {
	if c, ok := p.replaced.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	for _, tr := range p.all() {
		tr.CloseIdleConnections()
	}
}

// all returns the transports.
func (p *transportPool) all() []*pooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.open))
}
