package ociname

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry"
)

var (
	hex64 = strings.Repeat("0123456789abcdef", 4)
	d256  = "sha256:" + hex64
	d512  = "sha512:" + hex64 + hex64
)

// Every string of up to five of these characters, a slash among them, is what oras
// says that it is.
func TestRepositoriesAndTagsAreLikeOras(t *testing.T) {
	const alphabet = "a0._-/A~"
	var try func(s string, left int)
	try = func(s string, left int) {
		ref := registry.Reference{Repository: s, Reference: s}
		if got, want := ValidRepository(s, MaxRepository), ref.ValidateRepository() == nil; got != want {
			t.Fatalf("repository %q: %v, oras says %v", s, got, want)
		}
		if got, want := ValidTag(s), ref.ValidateReferenceAsTag() == nil; got != want {
			t.Fatalf("tag %q: %v, oras says %v", s, got, want)
		}
		if left > 0 {
			for i := range len(alphabet) {
				try(s+alphabet[i:i+1], left-1)
			}
		}
	}
	try("", 5)
}

func TestLengths(t *testing.T) {
	long := strings.Repeat("a", 255)
	for name, c := range map[string]struct{ got, want bool }{
		"repository of 255":           {ValidRepository(long, MaxRepository), true},
		"repository of 256":           {ValidRepository(long+"a", MaxRepository), false},
		"repository of 256 where 300": {ValidRepository(long+"a", 300), true},
		"tag of 128":                  {ValidTag(long[:128]), true},
		"tag of 129":                  {ValidTag(long[:129]), false},
		"word of 128":                 {ValidWord("." + long[:127]), true},
		"word of 129":                 {ValidWord("." + long[:128]), false},
		"no word":                     {ValidWord(""), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v", name, c.got)
		}
	}
}

func TestDigest(t *testing.T) {
	for _, s := range []string{d256, d512} {
		algorithm, hex, ok := SplitDigest(s)
		if !ok || algorithm+":"+hex != s {
			t.Errorf("%q: %q, %q, %v", s, algorithm, hex, ok)
		}
	}
	for _, s := range []string{
		"", ":", "sha256", "sha256:", hex64, "sha256:" + hex64[1:], d256 + "0", "sha256:" + strings.ToUpper(hex64), "SHA256:" + hex64,
		"sha512:" + hex64, "sha384:" + hex64 + hex64[:32], "md5:" + hex64[:32], "sha256:" + hex64[:63] + "g", "sha256:" + hex64[:63] + "\n", " " + d256,
	} {
		if algorithm, hex, ok := SplitDigest(s); ok || algorithm != "" || hex != "" || ValidDigest(s) {
			t.Errorf("%q: %q, %q, %v", s, algorithm, hex, ok)
		}
	}
}

func TestValidNamesDoNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		_ = ValidRepository("promoted/team-a/api", MaxRepository)
		_ = ValidTag("v1.2.3-rc.1")
		_ = ValidDigest(d256)
		_ = ValidURLHost("store_1.blob.example:8443")
		_ = FoldHost("registry.example:5000")
		_, _ = CanonicalHost("my-registry.azurecr.io")
		_, _ = CanonicalHost("registry.example:5000")
	}); n != 0 {
		t.Errorf("%v allocations for valid names", n)
	}
}

func FuzzNames(f *testing.F) {
	f.Add("a/b-c", "v1", d256)
	f.Add("a__b", "V1.2-RC", d512)
	f.Add("a/../b", ".", "sha384:"+hex64+hex64[:32])
	f.Fuzz(func(t *testing.T, repo, tag, d string) {
		ref := registry.Reference{Repository: repo, Reference: tag}
		if got, want := ValidRepository(repo, len(repo)), ref.ValidateRepository() == nil; got != want {
			t.Errorf("repository %q: %v, oras says %v", repo, got, want)
		}
		if got, want := ValidTag(tag), ref.ValidateReferenceAsTag() == nil; got != want {
			t.Errorf("tag %q: %v, oras says %v", tag, got, want)
		}
		a := digest.Digest(d)
		want := a.Validate() == nil && (a.Algorithm() == digest.SHA256 || a.Algorithm() == digest.SHA512)
		if got := ValidDigest(d); got != want {
			t.Errorf("digest %q: %v, go-digest says %v", d, got, want)
		}
	})
}

func BenchmarkRepository(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = ValidRepository("promoted/team-a/api", MaxRepository)
	}
}
