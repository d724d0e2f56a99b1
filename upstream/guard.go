package upstream

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// guardError says that an upstream led somewhere where requests must not go.
// Its text holds no URL; says is for clients.
type guardError struct{ text, says string }

func (e *guardError) Error() string  { return e.text }
func (e *guardError) reason() string { return e.says }

// depth is how far inside an address lies. What is deeper is worth more to
// somebody who can make us ask it.
type depth int32

const (
	unknown  depth = iota - 1
	public         // reachable for everybody
	private        // RFC 1918, RFC 4193, RFC 6598 and the like
	loopback       // this machine
	never          // link-local, metadata, and what is no address of one host
)

func (d depth) String() string {
	switch d {
	case unknown:
		return "unknown"
	case public:
		return "public"
	case private:
		return "private"
	case loopback:
		return "loopback"
	}
	return "link-local, metadata or special"
}

// region is a range of addresses of one depth; within one family the deepest
// that matches counts.
type region struct {
	prefix string
	depth  depth
}

// regions4 and regions6 follow the special-purpose address registries
// (RFC 6890) and the metadata services of the large clouds.
var (
	regions4 = parseRegions(
		region{"0.0.0.0/8", never}, // 0.0.0.0 reaches loopback on Linux
		region{"10.0.0.0/8", private},
		region{"100.64.0.0/10", private},
		region{"100.100.100.200/32", never}, // Alibaba's metadata
		region{"127.0.0.0/8", loopback},
		region{"168.63.129.16/32", never}, // Azure's host
		region{"169.254.0.0/16", never},
		region{"172.16.0.0/12", private},
		region{"192.0.0.0/24", private},
		region{"192.0.0.192/32", never}, // Oracle's metadata
		region{"192.168.0.0/16", private},
		region{"198.18.0.0/15", private},
		region{"224.0.0.0/3", never}, // multicast, reserved, broadcast
	)
	regions6 = parseRegions(
		region{"::/128", never},
		region{"::1/128", loopback},
		region{"fc00::/7", private},
		region{"fec0::/10", private},
		region{"fd00:ec2::254/128", never}, // AWS's metadata
		region{"fd00:ec2::23/128", never},  // AWS's pod identity
		region{"fd20:ce::254/128", never},  // Google's metadata
		region{"fe80::/10", never},
		region{"ff00::/8", never},
	)
	// carriers are IPv6 prefixes whose addresses hold an IPv4 one, at that byte.
	carriers = []struct {
		prefix netip.Prefix
		at     int
		invert bool
	}{
		{netip.MustParsePrefix("::/96"), 12, false},                 // IPv4-compatible, RFC 4291
		{netip.MustParsePrefix("::ffff:0:0:0/96"), 12, false},       // IPv4-translated, RFC 7915
		{netip.MustParsePrefix("64:ff9b::/96"), 12, false},          // NAT64, RFC 6052
		{netip.MustParsePrefix("64:ff9b:1::/48"), 12, false},        // NAT64, RFC 8215
		{netip.MustParsePrefix("2002::/16"), 2, false},              // 6to4, RFC 3056
		{netip.MustParsePrefix("2001::/32"), 12, true},              // Teredo's client, RFC 4380
		{netip.MustParsePrefix("2001::/32"), 4, false},              // Teredo's server
		{netip.MustParsePrefix("::5efe:0:0/96"), 12, false},         // ISATAP without a prefix
		{netip.MustParsePrefix("fe80::5efe:0:0/96"), 12, false},     // ISATAP, RFC 5214
		{netip.MustParsePrefix("fe80::200:5efe:0:0/96"), 12, false}, // ISATAP, universal bit
	}
)

type parsedRegion struct {
	prefix netip.Prefix
	depth  depth
}

func parseRegions(list ...region) []parsedRegion {
	parsed := make([]parsedRegion, len(list))
	for i, r := range list {
		parsed[i] = parsedRegion{netip.MustParsePrefix(r.prefix), r.depth}
	}
	return parsed
}

// depthOf tells how deep an address lies, in whatever notation it comes: an
// IPv6 address that carries an IPv4 one is as deep as the deeper of both.
func depthOf(a netip.Addr) depth {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return deepest(regions4, a)
	}
	d := deepest(regions6, a)
	if d == loopback || a.IsUnspecified() {
		return d
	}
	b := a.As16()
	for _, c := range carriers {
		if !c.prefix.Contains(a) {
			continue
		}
		v4 := [4]byte(b[c.at : c.at+4])
		if c.invert {
			for i := range v4 {
				v4[i] ^= 0xff
			}
		}
		d = max(d, deepest(regions4, netip.AddrFrom4(v4)))
	}
	return d
}

func deepest(regions []parsedRegion, a netip.Addr) depth {
	d := public
	for _, r := range regions {
		if r.prefix.Contains(a) {
			d = max(d, r.depth)
		}
	}
	return d
}

// depthOfHost tells what a host in a URL says of itself: an address is taken
// as it is, a few names are known, other names are unknown until they are
// dialled. A name whose last label is a number is an address in an odd
// notation (0x7f.1, 2852039166), which some resolvers read: never.
func depthOfHost(host string) depth {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		return depthOf(a)
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case last == "localhost":
		return loopback
	case host == "metadata.google.internal", host == "metadata":
		return never
	case last == "", strings.Trim(last, "0123456789") == "", numeral(last):
		return never
	}
	return unknown
}

// numeral reports whether a label is a hexadecimal number with its prefix.
func numeral(label string) bool {
	hex, ok := strings.CutPrefix(label, "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

// depthOfConn tells how deep the far end of a connection lies.
func depthOfConn(a net.Addr) depth {
	if t, ok := a.(*net.TCPAddr); ok {
		if addr, ok := netip.AddrFromSlice(t.IP); ok {
			return depthOf(addr)
		}
	}
	return unknown
}

// checkDialled refuses an address that lies deeper than limit.
func checkDialled(address string, limit depth) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return errAddress
	}
	return within(depthOf(addr.Addr()), limit, "the address that was dialled")
}

func within(d, limit depth, what string) error {
	if d == never || d > limit {
		return &guardError{fmt.Sprintf("%s is %s, where this upstream may not lead", what, d), "it leads to an address where it may not lead"}
	}
	return nil
}
