package upstream

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 5-5/*", "bytes 0-10/10", "bytes -1-2/3", "items 0-1/2", "bytes 1-0/5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		start, end, size, err := contentRange(v)
		if err == nil && (start < 0 || end < start || size >= 0 && end >= size) {
			t.Fatalf("%q: %d-%d/%d", v, start, end, size)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"7", "-1", "99999999999", "Wed, 21 Oct 2026 07:28:00 GMT", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if d := retryAfter(v, time.Now()); d < 0 || d > maxRetryAfter {
			t.Fatalf("%q gives %v", v, d)
		}
	})
}

// FuzzRealm: whatever a challenge names, the credential goes only to hosts that
// are known.
func FuzzRealm(f *testing.F) {
	for _, s := range []string{"https://auth.docker.io/token", "https://auth.docker.io.evil.example/", "http://auth.docker.io/", "https://auth.docker.io@evil.example/", "https://evil.example#auth.docker.io"} {
		f.Add(s)
	}
	g := &guard{client: &Client{}, canonical: "docker.io", host: "registry-1.docker.io"}
	f.Fuzz(func(t *testing.T, realm string) {
		u := parseURL(realm)
		if u == nil || g.realm(u) != nil {
			return
		}
		if u.Scheme != "https" || !strings.EqualFold(u.Hostname(), "auth.docker.io") && !strings.EqualFold(u.Hostname(), "docker.io") {
			t.Fatalf("%q may see the credential of docker.io", realm)
		}
	})
}

func TestDepthOf(t *testing.T) {
	for s, want := range map[string]int32{
		"8.8.8.8": public, "10.1.2.3": private, "192.168.0.1": private, "100.64.0.1": private, "fc00::1": private,
		"127.0.0.1": loopback, "::1": loopback, "0.0.0.0": loopback, "::ffff:127.0.0.1": loopback, "64:ff9b::7f00:1": loopback,
		"169.254.169.254": never, "::ffff:169.254.169.254": never, "fe80::1": never, "168.63.129.16": never, "2002:a9fe:a9fe::": never,
	} {
		if got := depthOf(netip.MustParseAddr(s)); got != want {
			t.Errorf("%s lies at %d, want %d", s, got, want)
		}
	}
}

func parseURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		return nil
	}
	return u
}
