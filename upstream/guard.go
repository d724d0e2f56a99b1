package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// errRefused reports something that an upstream wants and that is not done.
var errRefused = errors.New("refused")

const (
	maxRedirects = 10
	maxToken     = 1 << 20
)

// guard is the one door to the network for requests of one upstream host. It
// decides who may be asked and what he may see.
type guard struct {
	client    *Client
	canonical string
	host      string
	transport *http.Transport

	depth   atomic.Int32 // where the host itself lies; see depthOf
	proxies sync.Map     // addresses of HTTP proxies
}

// RoundTrip refuses requests to hosts that may not be asked.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	first := req
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	switch {
	case first.URL.Host == g.host: // a request of ours, or where it was redirected to
		if req.URL.Host != g.host || req.URL.Scheme != first.URL.Scheme {
			req = req.Clone(req.Context())
			for _, h := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
				req.Header.Del(h)
			}
		}
	default: // the token server
		if err := g.realm(first.URL); err != nil {
			return nil, err
		}
		if req.URL.Host != first.URL.Host {
			return nil, fmt.Errorf("%w: the token server redirects to another host", errRefused)
		}
	}
	if err := g.literal(req.URL); err != nil {
		return nil, err
	}
	resp, err := g.transport.RoundTrip(req)
	if err == nil && first.URL.Host != g.host {
		resp.Body = &limited{resp.Body, maxToken}
	}
	return resp, err
}

// limited bounds the answer of a token server.
type limited struct {
	io.ReadCloser
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("%w: the token server's answer is too long", errRefused)
	}
	n, err := l.ReadCloser.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// realm reports whether a token server may see the credential of this host.
func (g *guard) realm(u *url.URL) error {
	plain := g.client.Hosts[g.canonical].PlainHTTP
	if u.Scheme != "https" && !(u.Scheme == "http" && plain) {
		return fmt.Errorf("%w: the token server %q does not speak https", errRefused, u.Host)
	}
	host := strings.TrimSuffix(strings.ToLower(u.Host), ":443")
	if host == g.canonical || slices.Contains(realms(g.canonical), host) || slices.Contains(g.client.Hosts[g.canonical].Realms, host) {
		return nil
	}
	return fmt.Errorf("%w: the token server %q is not known for %q", errRefused, u.Host, g.canonical)
}

// redirect decides whether a redirect is followed.
func (g *guard) redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("%w: too many redirects", errRefused)
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: redirect from https to %s", errRefused, req.URL.Scheme)
	}
	return nil
}

// named reports whether the embedder names a host, or it is the rule's own.
func (g *guard) named(hostport string) bool {
	name := strings.TrimSuffix(strings.TrimSuffix(hostport, ":443"), ":80")
	for _, h := range []string{hostport, name} {
		if h == g.host || h == g.canonical {
			return true
		}
		if _, ok := g.client.Hosts[h]; ok {
			return true
		}
		if slices.Contains(g.client.Hosts[g.canonical].Realms, h) {
			return true
		}
	}
	return false
}

// companion reports whether a host is where an ACR keeps its blobs, which is
// private behind Private Link.
func (g *guard) companion(host string) bool {
	return strings.HasSuffix(g.canonical, ".azurecr.io") &&
		(strings.HasSuffix(host, ".data.azurecr.io") || strings.HasSuffix(host, ".blob.core.windows.net"))
}

// How deep inside a network an address lies.
const (
	public int32 = iota
	private
	loopback
	never // link-local and metadata
)

// depthOf tells where an address lies, in whatever notation it is written.
func depthOf(a netip.Addr) int32 {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		b := a.As16()
		switch {
		case b[0] == 0 && b[1] == 0x64 && b[2] == 0xff && b[3] == 0x9b: // NAT64
			a = netip.AddrFrom4([4]byte(b[12:16]))
		case b[0] == 0x20 && b[1] == 0x02: // 6to4
			a = netip.AddrFrom4([4]byte(b[2:6]))
		}
	}
	switch {
	case a.IsLinkLocalUnicast(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{168, 63, 129, 16}),
		a == netip.AddrFrom4([4]byte{100, 100, 100, 200}), a.String() == "fd00:ec2::254":
		return never
	case a.IsLoopback(), a.IsUnspecified():
		return loopback
	case a.IsPrivate(), a.Is4() && a.As4()[0] == 100 && a.As4()[1]&0xc0 == 64:
		return private
	}
	return public
}

// allowed reports whether an address may be dialled for a host.
func (g *guard) allowed(hostport string, a netip.Addr) error {
	depth := depthOf(a)
	host, _, _ := net.SplitHostPort(hostport)
	switch {
	case depth == never:
		return fmt.Errorf("%w: %s is a link-local or metadata address", errRefused, a)
	case hostport == g.host || host == g.host:
		g.depth.Store(depth)
		return nil
	case g.named(hostport), depth <= g.depth.Load(), depth == private && g.companion(host):
		return nil
	}
	return fmt.Errorf("%w: %s lies deeper inside the network than %s, which names it", errRefused, hostport, g.canonical)
}

// literal checks an address that stands in a URL, which an HTTP proxy would
// dial for us.
func (g *guard) literal(u *url.URL) error {
	a, err := netip.ParseAddr(strings.Trim(u.Hostname(), "[]"))
	if err != nil || u.Host == g.host && depthOf(a) != never {
		return nil
	}
	return g.allowed(u.Host, a)
}

// proxy notes the proxies of the environment, whose addresses are trusted.
func (g *guard) proxy(req *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(req)
	if u != nil {
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
		}
		g.proxies.Store(net.JoinHostPort(u.Hostname(), port), true)
	}
	return u, err
}

// dial opens a connection and checks the very address that is dialled, so that
// a name that changes its address gains nothing.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if g.client.Dial != nil {
		return g.client.Dial(ctx, network, address)
	}
	d := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	if _, ok := g.proxies.Load(address); !ok {
		d.ControlContext = func(_ context.Context, _, dialled string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(dialled)
			if err != nil {
				return fmt.Errorf("%w: address %q", errRefused, dialled)
			}
			return g.allowed(address, ap.Addr())
		}
	}
	return d.DialContext(ctx, network, address)
}
