package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// wire sends single requests. It is where every request passes, those to token
// servers too: nothing leaves unchecked, and oras-go sees no challenge that
// was not checked before.
type wire struct{ engine *engine }

// RoundTrip sends a request that belongs to a trip.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	t := tripOf(req.Context())
	if t == nil {
		return nil, errors.New("upstream: a request without a trip")
	}
	token := t.forToken(req)
	if token {
		if _, err := t.realm(req.URL.String()); err != nil {
			return nil, err
		}
	} else if err := t.check(req.URL); err != nil {
		return nil, err
	}
	out, err := w.prepare(req, t, token)
	if err != nil {
		return nil, err
	}
	transport, proxy, err := w.engine.pools.get(out, t)
	if err != nil {
		return nil, err
	}
	if proxy != nil {
		out = out.WithContext(context.WithValue(out.Context(), proxyKey{}, proxy))
	}
	if !token {
		out = w.watch(out, t, proxy != nil)
	}
	resp, err := transport.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	switch {
	case token:
		return tokenAnswer(resp, t.left)
	case redirects(resp.StatusCode):
		// net/http would read it first, and fail with its text.
		if _, err := url.Parse(resp.Header.Get("Location")); err != nil {
			_ = resp.Body.Close()
			return nil, errAddress
		}
	case resp.StatusCode == http.StatusUnauthorized && !t.bearer():
		return t.challenged(resp)
	}
	return resp, nil
}

// prepare copies the request and sets what all of them carry.
func (w *wire) prepare(req *http.Request, t *trip, token bool) (*http.Request, error) {
	out := req.Clone(req.Context())
	out.Header.Set("User-Agent", w.engine.userAgent)
	out.Header.Set("Accept-Encoding", "identity")
	if token {
		out.Header.Set("Accept", "application/json")
	}
	if loop := loopOf(req.Context()); loop != "" {
		out.Header.Set("CDN-Loop", loop)
	}
	if !token {
		t.shown, _ = strings.CutPrefix(out.Header.Get("Authorization"), "Bearer ")
		if t.shown != "" && !slices.Contains(t.sent, t.shown) {
			t.sent = append(t.sent, t.shown)
		}
	}
	if t.left && !t.anonymous() && out.Header.Get("Authorization") != "" {
		return nil, errors.New("upstream: a credential on its way to another origin") // cannot be, and must not
	}
	return out, nil
}

// watch notes who answers. What a proxy reached is not known, only what the
// URL says.
func (w *wire) watch(req *http.Request, t *trip, proxied bool) *http.Request {
	said, ours := depthOfHost(req.URL.Hostname()), w.engine.pools.dial == nil
	if proxied || w.engine.pools.base != nil {
		t.saw(said, said, false)
		return req
	}
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { t.saw(depthOfConn(c.Conn.RemoteAddr()), said, ours) },
	}))
}

// poolKey keeps connections apart that were opened under different rules: one
// to a private address must not be found by whom may only ask public ones.
type poolKey struct {
	limit   depth
	roots   *x509.CertPool
	proxied bool
}

// pools are the transports of a Client. There is at most one for each depth
// and set of roots.
type pools struct {
	base          http.RoundTripper
	proxy         func(*http.Request) (*url.URL, error)
	dial          func(ctx context.Context, network, address string) (net.Conn, error)
	dialTimeout   time.Duration
	headerTimeout time.Duration
	hosts         map[string]Host

	mu   sync.Mutex
	open map[poolKey]*http.Transport
}

// get returns what sends a request, and the proxy that it must pass, nil for none.
// It is the one place where the proxy is asked for.
func (p *pools) get(req *http.Request, t *trip) (rt http.RoundTripper, proxy *url.URL, err error) {
	if p.base != nil {
		return p.base, nil, nil
	}
	if proxy, err = p.proxy(req); err != nil {
		return nil, nil, &cause{text: "the proxy's address cannot be used", err: err}
	}
	key := poolKey{limit: t.limit(req.URL), roots: p.roots(t, hostOf(req.URL)), proxied: proxy != nil}
	if key.proxied {
		key.limit = loopback // the proxy is dialled, and the embedder named it
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	tr := p.open[key]
	if tr == nil {
		tr = p.transport(key)
		p.open[key] = tr
	}
	return tr, proxy, nil
}

// proxyKey is the key of the proxy that a request must pass, in its context.
type proxyKey struct{}

// decided is the proxy that was decided on when the limit for the request was
// chosen. A second decision might be another one, and a connection without a proxy
// that may go as deep as one to a proxy would be made.
func decided(req *http.Request) (*url.URL, error) {
	proxy, ok := req.Context().Value(proxyKey{}).(*url.URL)
	if !ok {
		return nil, errors.New("upstream: a request without its proxy")
	}
	return proxy, nil
}

// roots are the authorities that are trusted for a host. Those of a registry hold
// for the token servers that are known or listed for it, unless they have an
// entry of their own.
func (p *pools) roots(t *trip, host string) *x509.CertPool {
	h, ok := p.hosts[host]
	if !ok && t.trusted(host) {
		h = p.hosts[t.host]
	}
	return h.RootCAs
}

func (p *pools) transport(key poolKey) *http.Transport {
	tr := &http.Transport{
		DialContext:            p.dialer(key.limit),
		TLSClientConfig:        &tls.Config{RootCAs: key.roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    p.dialTimeout,
		ResponseHeaderTimeout:  p.headerTimeout,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		ReadBufferSize:         64 << 10,
		MaxResponseHeaderBytes: 256 << 10,
	}
	if key.proxied {
		tr.Proxy = decided
	}
	return tr
}

// dialer dials no address deeper than limit. The check is made on the address
// that is connected to, after the name was looked up.
func (p *pools) dialer(limit depth) func(context.Context, string, string) (net.Conn, error) {
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
		if err := within(depthOfConn(c.RemoteAddr()), limit, "the address that was dialled"); err != nil {
			_ = c.Close()
			return nil, err
		}
		return c, nil
	}
}

func (p *pools) closeIdle() {
	if c, ok := p.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, tr := range p.open {
		tr.CloseIdleConnections()
	}
}
