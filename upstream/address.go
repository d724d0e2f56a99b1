package upstream

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

// depth says how far inside the network an address lies. A deeper address is worth
// more to an attacker who can make a [Client] send requests to it.
type depth int32

const (
	unknown   depth = iota - 1 // a name that has not been looked up
	public                     // reachable from everywhere
	private                    // RFC 1918, RFC 4193, RFC 6598 and the like
	loopback                   // this machine
	forbidden                  // link-local, metadata services, and addresses that are not those of one host
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

// region is a range of addresses that have one depth. Of several regions that hold an
// address the deepest counts.
type region struct {
	prefix netip.Prefix
	depth  depth
}

// cloud lists where one cloud serves metadata to its machines, with credentials among
// it.
type cloud struct {
	name      string
	addresses []string // prefixes
	names     []string // host names, lower case
}

var (
	// regions follows the special-purpose address registries (RFC 6890).
	regions = append(metadataRegions(),
		newRegion("0.0.0.0/8", forbidden), // 0.0.0.0 reaches loopback on Linux
		newRegion("10.0.0.0/8", private),
		newRegion("100.64.0.0/10", private),
		newRegion("127.0.0.0/8", loopback),
		newRegion("169.254.0.0/16", forbidden),
		newRegion("172.16.0.0/12", private),
		newRegion("192.0.0.0/24", private),
		newRegion("192.168.0.0/16", private),
		newRegion("198.18.0.0/15", private),
		newRegion("224.0.0.0/3", forbidden), // multicast, reserved, broadcast
		newRegion("::/128", forbidden),
		newRegion("::1/128", loopback),
		newRegion("fc00::/7", private),
		newRegion("fec0::/10", private),
		newRegion("fe80::/10", forbidden),
		newRegion("ff00::/8", forbidden),
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

func newRegion(prefix string, d depth) region {
	return region{netip.MustParsePrefix(prefix), d}
}

// metadataRegions returns the addresses of the metadata services of all clouds.
func metadataRegions() []region {
	var list []region
	for _, c := range clouds {
		for _, prefix := range c.addresses {
			list = append(list, newRegion(prefix, forbidden))
		}
	}
	return list
}

// servesMetadata reports whether name, in lower case, is the host name of a metadata
// service.
func servesMetadata(name string) bool {
	return slices.ContainsFunc(clouds, func(c cloud) bool { return slices.Contains(c.names, name) })
}

// depthOf returns the depth of an address. An IPv6 address that contains an IPv4
// address has the greater depth of the two.
func depthOf(a netip.Addr) depth {
	a = a.Unmap().WithZone("")
	d := depthInRegions(a)
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
		d = max(d, depthInRegions(netip.AddrFrom4(v4)))
	}
	return d
}

// depthInRegions returns the depth of the deepest region that contains a.
func depthInRegions(a netip.Addr) depth {
	d := public
	for _, r := range regions {
		if r.prefix.Contains(a) {
			d = max(d, r.depth)
		}
	}
	return d
}

// depthOfHost returns what the host of a URL, without its port, tells about its depth.
// An address has its own depth, and a few names are known. Every other name is unknown
// until it is dialled. A name whose last label is a number is forbidden, since some
// resolvers read it as an address in an odd notation (0x7f.1, 2852039166).
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
		return forbidden
	case ociname.Numeric(last):
		return forbidden
	}
	return unknown
}

// depthOfRemote returns the depth of the remote address of a connection.
func depthOfRemote(a net.Addr) depth {
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
	return checkDepth(depthOf(addr.Addr()), limit, dialledAddress)
}

// dialledAddress names, in errors, an address that cannot be named itself.
const dialledAddress = "the address that was dialled"

// checkDepth refuses a depth beyond limit; what names, in the error, that which has it.
func checkDepth(d, limit depth, what string) error {
	if d == forbidden || d > limit {
		return &guardError{fmt.Sprintf("%s is %s, where this upstream may not lead", what, d), "it leads to an address where it may not lead"}
	}
	return nil
}
