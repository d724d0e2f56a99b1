package netdepth

import (
	"net/netip"
	"testing"
)

func TestDepth(t *testing.T) {
	for text, want := range map[string]Depth{
		"8.8.8.8": Public, "2606:4700::1": Public, "10.1.2.3": Private, "172.31.0.1": Private, "172.32.0.1": Public, "192.168.0.1": Private,
		"100.64.0.1": Private, "100.128.0.1": Public, "fd12::1": Private, "127.0.0.1": Loopback, "127.9.9.9": Loopback, "::1": Loopback,
		"::ffff:127.0.0.1": Loopback, "::127.0.0.1": Loopback, "64:ff9b::7f00:1": Loopback, "2002:7f00:1::": Loopback, "::ffff:0:127.0.0.1": Loopback,
		"64:ff9b::a00:1": Private, "64:ff9b:1::a00:1": Private, "2002:a00:1::5": Private, "64:ff9b::808:808": Public,
		"169.254.169.254": Forbidden, "::ffff:169.254.169.254": Forbidden, "64:ff9b::a9fe:a9fe": Forbidden, "2002:a9fe:a9fe::": Forbidden, "::a9fe:a9fe": Forbidden,
		"168.63.129.16": Forbidden, "::ffff:168.63.129.16": Forbidden, "fe80::1": Forbidden, "fe80::1%eth0": Forbidden, "fd00:ec2::254": Forbidden, "fd20:ce::254": Forbidden,
		"100.100.100.200": Forbidden, "192.0.0.192": Forbidden, "0.0.0.0": Forbidden, "::": Forbidden, "224.0.0.1": Forbidden, "255.255.255.255": Forbidden, "ff02::1": Forbidden,
		"2001:0:a00:1:0:0:f7f7:f7f7": Private, "2001:0:808:808:0:0:5601:5601": Forbidden, // Teredo: server, then the client's address inverted
	} {
		if got := Of(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	for host, want := range map[string]Depth{
		"hub.example": Unknown, "localhost": Loopback, "x.LocalHost.": Loopback, "metadata.google.internal": Forbidden, "127.1": Forbidden, "0x7f.1": Forbidden,
		"2852039166": Forbidden, "0xa9fea9fe": Forbidden, "10.0.0.1": Private, "a.b.c1": Unknown, "0xen.example": Unknown, "": Forbidden,
	} {
		if got := OfHost(host); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
}

func FuzzDepth(f *testing.F) {
	f.Add([]byte{169, 254, 169, 254})
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, ok := netip.AddrFromSlice(raw)
		if !ok || !a.Is4() {
			return
		}
		b, want := a.As4(), Of(a)
		for _, notation := range []netip.Addr{
			netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}),
			netip.AddrFrom16([16]byte{0: 0, 1: 0x64, 2: 0xff, 3: 0x9b, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}),
			netip.AddrFrom16([16]byte{0: 0x20, 1: 0x02, 2: b[0], 3: b[1], 4: b[2], 5: b[3]}),
		} {
			if got := Of(notation); got != want {
				t.Errorf("%s is %v, %s is %v", a, want, notation, got)
			}
		}
	})
}
