// Package netdepth knows how far inside a network an address lies: whether it is
// reachable from everywhere, from a private network or from this machine alone, or
// should not be connected to at all. It looks up no names.
package netdepth

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

// Depth says how far inside a network an address lies. Depths are ordered: a greater one
// is worth more to an attacker who can make a program on this machine send requests to
// it.
type Depth int32

const (
	Unknown   Depth = iota - 1 // of a name that has not been looked up
	Public                     // reachable from everywhere
	Private                    // RFC 1918, RFC 4193, RFC 6598 and the like
	Loopback                   // this machine
	Forbidden                  // link-local, metadata services, and addresses that are not those of one host
)

// String names the depth, for errors.
func (d Depth) String() string {
	switch d {
	case Unknown:
		return "unknown"
	case Public:
		return "public"
	case Private:
		return "private"
	case Loopback:
		return "loopback"
	}
	return "link-local, metadata or special"
}

// region is a range of addresses that have one depth. Of several regions that hold an
// address the deepest counts.
type region struct {
	prefix netip.Prefix
	depth  Depth
}

// cloud lists where one cloud serves metadata to its machines, with credentials among
// it.
type cloud struct {
	name      string
	addresses []string // prefixes
	names     []string // host names, lower case
}

var (
	// regions follow the special-purpose address registries (RFC 6890).
	regions = append(metadataRegions(),
		newRegion("0.0.0.0/8", Forbidden), // 0.0.0.0 reaches loopback on Linux
		newRegion("10.0.0.0/8", Private),
		newRegion("100.64.0.0/10", Private),
		newRegion("127.0.0.0/8", Loopback),
		newRegion("169.254.0.0/16", Forbidden),
		newRegion("172.16.0.0/12", Private),
		newRegion("192.0.0.0/24", Private),
		newRegion("192.168.0.0/16", Private),
		newRegion("198.18.0.0/15", Private),
		newRegion("224.0.0.0/3", Forbidden), // multicast, reserved, broadcast
		newRegion("::/128", Forbidden),
		newRegion("::1/128", Loopback),
		newRegion("fc00::/7", Private),
		newRegion("fec0::/10", Private),
		newRegion("fe80::/10", Forbidden),
		newRegion("ff00::/8", Forbidden),
	)
	// clouds are the known metadata services. Link-local addresses are listed too,
	// though regions covers them, so that the table is complete for each cloud.
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
	// carriers are the IPv6 prefixes whose addresses contain an IPv4 address.
	carriers = []struct {
		prefix netip.Prefix
		at     int  // index of the first byte of the IPv4 address
		invert bool // whether its bits are inverted
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

func newRegion(prefix string, d Depth) region {
	return region{netip.MustParsePrefix(prefix), d}
}

// metadataRegions returns the addresses of the metadata services of all clouds.
func metadataRegions() []region {
	var list []region
	for _, c := range clouds {
		for _, prefix := range c.addresses {
			list = append(list, newRegion(prefix, Forbidden))
		}
	}
	return list
}

// servesMetadata reports whether name, in lower case, is the host name of a metadata
// service.
func servesMetadata(name string) bool {
	return slices.ContainsFunc(clouds, func(c cloud) bool { return slices.Contains(c.names, name) })
}

// Of returns the depth of an address, which is never Unknown. An IPv6 address that
// contains an IPv4 address has the greater depth of the two.
func Of(a netip.Addr) Depth {
	a = a.Unmap().WithZone("")
	d := inRegions(a)
	if a.Is4() {
		return d
	}
	if d == Loopback || a.IsUnspecified() {
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
		d = max(d, inRegions(netip.AddrFrom4(v4)))
	}
	return d
}

// inRegions returns the depth of the deepest region that contains a.
func inRegions(a netip.Addr) Depth {
	d := Public
	for _, r := range regions {
		if r.prefix.Contains(a) {
			d = max(d, r.depth)
		}
	}
	return d
}

// OfHost returns the depth of a host as it is written in a URL, without its port. An
// address has its own depth, and a few names are known. Every other name is Unknown:
// its depth is that of the address that is dialled for it. A name whose last label is a number is Forbidden, since some
// resolvers read it as an address in an odd notation (0x7f.1, 2852039166).
func OfHost(host string) Depth {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if strings.IndexByte(host, ':') >= 0 || ociname.Numeric(last) { // no name is parsed in vain
		if a, err := netip.ParseAddr(host); err == nil {
			return Of(a)
		}
	}
	switch {
	case last == "localhost":
		return Loopback
	case servesMetadata(host):
		return Forbidden
	case ociname.Numeric(last):
		return Forbidden
	}
	return Unknown
}

// OfRemote returns the depth of the remote address of a connection. If it is no TCP
// address, it is Unknown.
func OfRemote(a net.Addr) Depth {
	if t, ok := a.(*net.TCPAddr); ok {
		if addr, ok := netip.AddrFromSlice(t.IP); ok {
			return Of(addr)
		}
	}
	return Unknown
}
