package inbound

import (
	"cmp"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/rule"
)

// Proxies are the networks of the reverse proxies in front, whose headers
// X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239), are believed. From all other
// addresses these headers mean nothing.
type Proxies []netip.Prefix

// ParseProxy reads a network such as 10.0.0.0/8, or a single address.
func ParseProxy(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

// contain reports whether an address is that of one of the proxies.
func (p Proxies) contain(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(one netip.Prefix) bool { return one.Contains(a) })
}

// hop is what is known of the client's own request.
type hop struct {
	address     netip.Addr // invalid if it is unknown
	proto, host string     // empty if nobody says it
}

// client returns the address of the client, and how the client's request came to the first proxy.
func (p Proxies) client(r *http.Request) hop {
	peer := peerOf(r)
	if !p.contain(peer) {
		return hop{address: peer}
	}
	x, isX := p.xForwarded(r.Header, peer)
	f, isF := p.forwarded(r.Header, peer)
	switch {
	case isX && isF && x.address != f.address:
		// One of the two is probably a client's own header that a proxy has passed on.
		return hop{address: peer}
	case isX:
		return x
	case isF:
		return hop{f.address, cmp.Or(f.proto, x.proto), cmp.Or(f.host, x.host)}
	}
	return hop{address: peer, proto: x.proto, host: x.host}
}

// xForwarded reads the X-Forwarded headers. It reports whether there is an address.
func (p Proxies) xForwarded(h http.Header, peer netip.Addr) (hop, bool) {
	one := hop{
		proto: protoOf(firstOf(h.Get("X-Forwarded-Proto"))),
		host:  hostOf(firstOf(h.Get("X-Forwarded-Host"))),
	}
	list := strings.Join(h.Values("X-Forwarded-For"), ",")
	if list == "" {
		return one, false
	}
	one.address = p.walk(strings.Split(list, ","), peer)
	return one, true
}

// forwarded reads the Forwarded header. It reports whether there is an address.
func (p Proxies) forwarded(h http.Header, peer netip.Addr) (hop, bool) {
	var one hop
	var chain []string
	for i, element := range strings.Split(strings.Join(h.Values("Forwarded"), ","), ",") {
		for pair := range strings.SplitSeq(element, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			value = strings.Trim(value, `"`)
			switch strings.ToLower(name) {
			case "for":
				chain = append(chain, value)
			case "proto":
				if i == 0 {
					one.proto = protoOf(value)
				}
			case "host":
				if i == 0 {
					one.host = hostOf(value)
				}
			}
		}
	}
	if len(chain) == 0 {
		return one, false
	}
	one.address = p.walk(chain, peer)
	return one, true
}

// walk goes from the nearest hop outwards, as far as each is one of the proxies. What lies
// behind is a stranger's word.
func (p Proxies) walk(chain []string, peer netip.Addr) netip.Addr {
	nearest := peer
	for _, text := range slices.Backward(chain) {
		a, ok := addressOf(strings.TrimSpace(text))
		if !ok {
			return nearest
		}
		if nearest = a; !p.contain(a) {
			break
		}
	}
	return nearest
}

// peerOf returns the address at the other end of the connection.
func peerOf(r *http.Request) netip.Addr {
	a, _ := addressOf(r.RemoteAddr)
	return a
}

// addressOf reads an address, with a port or without.
func addressOf(text string) (netip.Addr, bool) {
	if p, err := netip.ParseAddrPort(text); err == nil {
		return p.Addr().Unmap(), true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	return a.Unmap(), err == nil
}

// firstOf returns the first of several values.
func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}

// protoOf returns a scheme of HTTP, or an empty text.
func protoOf(text string) string {
	if text = strings.ToLower(text); text == "http" || text == "https" {
		return text
	}
	return ""
}

// hostOf returns a host, or an empty text if it cannot be one.
func hostOf(text string) string {
	if _, err := rule.CanonicalHost(text); err != nil {
		return ""
	}
	return strings.ToLower(text)
}
