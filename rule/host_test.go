package rule

import (
	"strings"
	"testing"
)

func TestCanonicalHost(t *testing.T) {
	for in, want := range map[string]string{
		"docker.io":                          "docker.io",
		"index.docker.io":                    "docker.io",
		"registry-1.docker.io":               "docker.io",
		"Registry-1.Docker.IO.:443":          "docker.io",
		"GHCR.io":                            "ghcr.io",
		"quay.io.":                           "quay.io",
		"quay.io:443":                        "quay.io",
		"quay.io.:8443":                      "quay.io:8443",
		"localhost":                          "localhost",
		"localhost:5000":                     "localhost:5000",
		"registry":                           "registry",
		"127.0.0.1:5000":                     "127.0.0.1:5000",
		"[::1]:5000":                         "[::1]:5000",
		"[0:0::1]":                           "[::1]",
		"[FE80::A]:443":                      "[fe80::a]",
		"my-reg-e7gg.azurecr.io":             "my-reg-e7gg.azurecr.io",
		"us-west1-docker.pkg.dev":            "us-west1-docker.pkg.dev",
		"docker.io:5000":                     "docker.io:5000",
		"1password.example.com":              "1password.example.com",
		strings.Repeat("a", 63) + "." + "io": strings.Repeat("a", 63) + ".io",
	} {
		got, err := CanonicalHost(in)
		if err != nil || got != want {
			t.Errorf("CanonicalHost(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", ".", ":", ":5000", "a..b", "-a.io", "a-.io", "a_b.io", "a b", "ä.io", "a/b", "user@host", "host?x", "host#x",
		"host:", "host:0", "host:65536", "host:+80", "host:080", "host:http", "host:80:80", "::1", "[::1", "::1]", "[::1]x", "[1.2.3.4]",
		"[fe80::1%eth0]", "127.1", "2130706433", "0x7f000001", "127.0.0.01", "1.2.3.256", "1.2.3.0x4", "example.08", "host..",
		strings.Repeat("a", 64) + ".io", strings.Repeat("abc.", 64) + "io", "host\x00", "host%41",
	} {
		if got, err := CanonicalHost(in); err == nil {
			t.Errorf("CanonicalHost(%q) = %q, want an error", in, got)
		}
	}
}

func TestCanonicalHostDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _, _ = CanonicalHost("my-registry.azurecr.io") }); n != 0 {
		t.Errorf("%v allocations for a host that is canonical already", n)
	}
}

func FuzzCanonicalHost(f *testing.F) {
	for _, s := range []string{"docker.io", "Index.Docker.IO.:443", "[::1]:5000", "127.0.0.1", "a-b.c:80", "x..", "[::ffff:1.2.3.4]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := CanonicalHost(s)
		if err != nil {
			return
		}
		if twice, err := CanonicalHost(once); err != nil || twice != once {
			t.Fatalf("%q -> %q -> %q, %v", s, once, twice, err)
		}
		if strings.ContainsAny(once, "/@?#%\\ ") || once != strings.ToLower(once) {
			t.Fatalf("%q -> %q", s, once)
		}
	})
}
