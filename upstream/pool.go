package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/pullthrough/pullthrough/internal/netdepth"
)

// transportPool holds the transports of a [Client], at most one for each [poolKey]. It
// is safe for concurrent use.
type transportPool struct {
	replaced    http.RoundTripper // Client.Transport; if nil, the pool makes its own transports
	proxy       func(*http.Request) (*url.URL, error)
	dial        func(ctx context.Context, network, address string) (net.Conn, error) // Client.Dial; if nil, the pool dials itself
	dialTimeout time.Duration

	mu   sync.Mutex
	open map[poolKey]*http.Transport
}

// poolKey separates connections that were opened under different conditions: one to a
// private address must not be reused by a request that may go to public ones only.
type poolKey struct {
	limit   netdepth.Depth
	roots   *x509.CertPool
	proxied bool
}

// get returns the transport for a request, and the proxy that it must pass. If proxy is
// nil, it passes none. No other function asks for the proxy.
func (p *transportPool) get(req *http.Request, g *callGuard) (rt http.RoundTripper, proxy *url.URL, err error) {
	if p.replaced != nil {
		return p.replaced, nil, nil
	}
	if proxy, err = p.proxy(req); err != nil {
		return nil, nil, &cause{text: "the proxy's address cannot be used", err: err}
	}
	key := poolKey{limit: g.dialLimit(req.URL), roots: g.policy.roots(hostOf(req.URL)), proxied: proxy != nil}
	if key.proxied {
		key.limit = netdepth.Loopback // it is the proxy that is dialled, and the embedder named it
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	tr := p.open[key]
	if tr == nil {
		tr = p.newTransport(key)
		p.open[key] = tr
	}
	return tr, proxy, nil
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
func (p *transportPool) newTransport(key poolKey) *http.Transport {
	tr := &http.Transport{
		DialContext:            p.dialer(key.limit),
		TLSClientConfig:        &tls.Config{RootCAs: key.roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    p.dialTimeout,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		ReadBufferSize:         64 << 10,
		MaxResponseHeaderBytes: 256 << 10,
	}
	if key.proxied {
		tr.Proxy = chosenProxy
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
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, tr := range p.open {
		tr.CloseIdleConnections()
	}
}
