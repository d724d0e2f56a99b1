package ociname

import (
	"strings"
	"testing"
)

func TestFoldHost(t *testing.T) {
	for in, want := range map[string]string{
		"docker.io": "docker.io", "Index.Docker.IO": "docker.io", "registry-1.docker.io.:443": "docker.io", "docker.io:443": "docker.io",
		"registry-1.docker.io:5000": "registry-1.docker.io:5000", "auth.docker.io": "auth.docker.io",
		"GHCR.io": "ghcr.io", "quay.io.": "quay.io", "quay.io.:8443": "quay.io:8443", "a_b.example": "a_b.example",
		"[0:0::1]": "[0:0::1]", "[FE80::A]:443": "[fe80::a]", "127.0.0.1:443": "127.0.0.1",
		"": "", "a b": "a b", "host:": "host",
	} {
		if got := FoldHost(in); got != want {
			t.Errorf("FoldHost(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCanonicalAddress(t *testing.T) {
	for in, want := range map[string]string{"[0:0::1]": "[::1]", "[FE80::A]:443": "[fe80::a]", "[0:0::1]:5000": "[::1]:5000", "[::ffff:a9fe:a9fe]": "[::ffff:169.254.169.254]"} {
		if got, err := CanonicalHost(in); err != nil || got != want {
			t.Errorf("CanonicalHost(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestRegistryHost(t *testing.T) {
	for in, want := range map[string]string{"docker.io": "registry-1.docker.io", "docker.io:5000": "docker.io:5000", "ghcr.io": "ghcr.io"} {
		if got := RegistryHost(in); got != want {
			t.Errorf("RegistryHost(%q) = %q, want %q", in, got, want)
		}
	}
}

// The hosts that one of the two grammars accepts and the other does not.
func TestCanonicalHostIsStricterThanURLs(t *testing.T) {
	for host, both := range map[string]bool{
		"ghcr.io": true, "GHCR.io.:8443": true, "[::1]:5000": true, "127.0.0.1": true,
		"a_b.example": false, "-a.example": false, "a-.example": false, "127.1": false, "0x7f.1": false, "0X7F000001": false, "2130706433": false, "example.08": false,
	} {
		if _, err := CanonicalHost(host); (err == nil) != both {
			t.Errorf("CanonicalHost(%q): %v", host, err)
		}
		if !ValidURLHost(host) {
			t.Errorf("%q is refused in a URL", host)
		}
	}
	for _, host := range []string{
		"", ".", "a..b", "host..", "a b", "ä.io", "169。254。169。254", "\u212A.io", "a/b", "user@host", "host:", "host:0", "host:080", "host:+80", "host:65536", "host:80:80",
		"::1", "[::1", "::1]", "[::1]x", "[::1].", "[1.2.3.4]", "[fe80::1%eth0]", "host%41", strings.Repeat("a", 64) + ".io", strings.Repeat("abc.", 64) + "io",
	} {
		if got, err := CanonicalHost(host); err == nil {
			t.Errorf("CanonicalHost(%q) = %q", host, got)
		}
		if ValidURLHost(host) {
			t.Errorf("%q is let into a URL", host)
		}
	}
}

func TestNumeric(t *testing.T) {
	for label, want := range map[string]bool{
		"": true, "1": true, "08": true, "0x7f": true, "0X7F": true, "0x": true, "a": false, "0xen": false, "1a": false, "c1": false,
	} {
		if got := Numeric(label); got != want {
			t.Errorf("Numeric(%q) = %v", label, got)
		}
	}
}

func FuzzHost(f *testing.F) {
	for _, s := range []string{"docker.io", "Index.Docker.IO.:443", "[::1]:5000", "127.0.0.1", "a-b.c:80", "x..", "[::ffff:1.2.3.4]", "a_b:1", "K.io", "[::1].:443"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		folded := FoldHost(s)
		if ValidURLHost(s) && (!ValidURLHost(folded) || FoldHost(folded) != folded) {
			t.Fatalf("%q -> %q -> %q", s, folded, FoldHost(folded))
		}
		once, err := CanonicalHost(s)
		if err != nil {
			return
		}
		if !ValidURLHost(s) || folded != once && s[0] != '[' {
			t.Fatalf("%q: %q folded, %q canonical", s, folded, once)
		}
		if twice, err := CanonicalHost(once); err != nil || twice != once {
			t.Fatalf("%q -> %q -> %q, %v", s, once, twice, err)
		}
		if strings.ContainsAny(once, "/@?#%\\ _") || once != strings.ToLower(once) {
			t.Fatalf("%q -> %q", s, once)
		}
	})
}
