package upstream

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ociname"
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

// region is a range of addresses of one depth; the deepest that matches counts.
type region struct {
	prefix netip.Prefix
	depth  depth
}

// cloud is where a cloud serves metadata, and credentials with it, to its machines.
type cloud struct {
	name      string
	addresses []string // prefixes
	names     []string // host names, lower case
}

var (
	// regions follows the special-purpose address registries (RFC 6890).
	regions = append(metadataRegions(),
		newRegion("0.0.0.0/8", never), // 0.0.0.0 reaches loopback on Linux
		newRegion("10.0.0.0/8", private),
		newRegion("100.64.0.0/10", private),
		newRegion("127.0.0.0/8", loopback),
		newRegion("169.254.0.0/16", never),
		newRegion("172.16.0.0/12", private),
		newRegion("192.0.0.0/24", private),
		newRegion("192.168.0.0/16", private),
		newRegion("198.18.0.0/15", private),
		newRegion("224.0.0.0/3", never), // multicast, reserved, broadcast
		newRegion("::/128", never),
		newRegion("::1/128", loopback),
		newRegion("fc00::/7", private),
		newRegion("fec0::/10", private),
		newRegion("fe80::/10", never),
		newRegion("ff00::/8", never),
	)
	// clouds are the metadata services that are known. The link-local addresses
	// stand here too, so that the table is whole for each cloud.
	clouds = []cloud{
		{"Akamai (Linode)", []string{"169.254.169.254/32", "fd00:a9fe:a9fe::1/128"}, nil},
		{"Alibaba", []string{"100.100.100.200/32", "fd00:100::100:200/128"}, nil},
		{"AWS", []string{"169.254.169.254/32", "169.254.170.0/24", "fd00:ec2::/32"}, []string{"instance-data", "instance-data.ec2.internal"}},
		{"Azure", []string{"169.254.169.254/32", "168.63.129.16/32"}, nil},
		{"DigitalOcean", []string{"169.254.169.254/32"}, nil},
		{"Equinix Metal", nil, []string{"metadata.packet.net", "metadata.platformequinix.com"}},
		{"Google", []string{"169.254.169.254/32", "fd20:ce::254/128"}, []string{"metadata", "metadata.goog", "metadata.google.internal"}},
		{"Hetzner", []string{"169.254.169.254/32"}, nil},
		{"IBM", []string{"169.254.169.254/32"}, []string{"api.metadata.cloud.ibm.com"}},
		{"OpenStack", []string{"169.254.169.254/32", "fe80::a9fe:a9fe/128"}, nil},
		{"Oracle", []string{"169.254.169.254/32", "192.0.0.192/32", "fd00:c1::a9fe:a9fe/128"}, nil},
		{"Rancher", []string{"169.254.169.250/32"}, []string{"rancher-metadata"}},
		{"Scaleway", []string{"169.254.42.42/32", "fd00:42::42/128"}, nil},
		{"Tencent", []string{"169.254.0.23/32"}, []string{"metadata.tencentyun.com"}},
	}
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

func newRegion(prefix string, d depth) region {
	return region{netip.MustParsePrefix(prefix), d}
}

// metadataRegions are the addresses of all clouds.
func metadataRegions() []region {
	var list []region
	for _, c := range clouds {
		for _, prefix := range c.addresses {
			list = append(list, newRegion(prefix, never))
		}
	}
	return list
}

// servesMetadata reports whether a name, in lower case, is that of a metadata
// service.
func servesMetadata(name string) bool {
	return slices.ContainsFunc(clouds, func(c cloud) bool { return slices.Contains(c.names, name) })
}

// depthOf tells how deep an address lies, in whatever notation it comes: an
// IPv6 address that carries an IPv4 one is as deep as the deeper of both.
func depthOf(a netip.Addr) depth {
	a = a.Unmap().WithZone("")
	d := deepest(a)
	if a.Is4() {
		return d
	}
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
		d = max(d, deepest(netip.AddrFrom4(v4)))
	}
	return d
}

func deepest(a netip.Addr) depth {
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
	case servesMetadata(host):
		return never
	case ociname.Numeric(last):
		return never
	}
	return unknown
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
