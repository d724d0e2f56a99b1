package store

import (
	"crypto/sha256"
	"crypto/sha512"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry"
)

func TestSegmentIsLikeOras(t *testing.T) {
	// Every string of up to five of these, a slash included.
	alphabet := "a0._-/A~"
	var try func(s string, left int)
	try = func(s string, left int) {
		want := registry.Reference{Repository: s}.ValidateRepository() == nil
		if got := checkRepository(s) == nil; got != want {
			t.Fatalf("%q: %v, oras says %v", s, got, want)
		}
		if left > 0 {
			for i := range len(alphabet) {
				try(s+alphabet[i:i+1], left-1)
			}
		}
	}
	try("", 5)
}

func FuzzNames(f *testing.F) {
	f.Add("a/b-c", "v1", string(digest.FromString("x")))
	f.Add("a__b", "V1.2-RC", "sha512:"+strings.Repeat("0", 128))
	f.Fuzz(func(t *testing.T, repo, tag, d string) {
		ref := registry.Reference{Repository: repo, Reference: tag}
		if len(repo) <= maxSegment && (checkRepository(repo) == nil) != (ref.ValidateRepository() == nil) {
			t.Errorf("repository %q: %v", repo, checkRepository(repo))
		}
		if (checkTag(tag) == nil) != (ref.ValidateReferenceAsTag() == nil) {
			t.Errorf("tag %q: %v", tag, checkTag(tag))
		}
		_, _, err := checkDigest(digest.Digest(d))
		want := digest.Digest(d).Validate() == nil && !strings.HasPrefix(d, "sha384:")
		if (err == nil) != want {
			t.Errorf("digest %q: %v", d, err)
		}
	})
}

// The digest library knows the algorithms that are linked.
var _, _ = sha256.New, sha512.New

func TestNamesThatAreTooLong(t *testing.T) {
	for name, repo := range map[string]string{
		"segment": "a/" + strings.Repeat("b", 256),
		"whole":   strings.Repeat("a/", 1500) + "a",
	} {
		if err := checkRepository(repo); err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := checkRepository("a/" + strings.Repeat("b", 255)); err != nil {
		t.Error(err)
	}
}
