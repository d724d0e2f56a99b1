package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestCranePull pulls one platform of an index by tag.
func TestCranePull(t *testing.T) {
	crane, s := tool(t, "crane"), newStack(t)
	s.story(t, "crane", []string{"amd64"}, func(t *testing.T) {
		cranePull(t, crane, s.reference(), s.image)
	})
}

// cranePull pulls linux/amd64 of an image and checks it.
func cranePull(t *testing.T, crane, reference string, m *image) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	command(t, crane, "pull", "--insecure", "--platform", "linux/amd64", "--format", "oci", reference, dir)
	wantLayout(t, dir, m, false, "amd64")
}

// TestCraneValidate makes crane hash every blob of every platform, and get the digest by
// HEAD.
func TestCraneValidate(t *testing.T) {
	crane, s := tool(t, "crane"), newStack(t)
	s.listTags(t)
	for _, state := range []string{"cold", "again"} {
		printed := command(t, crane, "validate", "--insecure", "--remote", s.reference())
		if !strings.Contains(printed, "PASS") {
			t.Errorf("%s: crane validate does not say PASS: %s", state, printed)
		}
	}
	s.settle(t, "amd64", "arm64")
	wantNoBlobTwice(t, s.wire.take())
	wantDigest(t, s.image, command(t, crane, "digest", "--insecure", s.reference()))
	wantOneHead(t, s.wire.take(), upstreamRepository, tag)
	s.wire.stop()
	wantDigest(t, s.image, command(t, crane, "digest", "--insecure", s.reference()))
	s.wantTagListed(t)
	s.wantGentleEnd(t)
}
