package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// wantLayout fails unless an OCI layout has the platforms of an image, byte by byte, and
// with index, its index.
func wantLayout(t *testing.T, dir string, m *image, index bool, architectures ...string) {
	t.Helper()
	if index {
		wantFile(t, dir, m.index.Digest, m.manifests[m.index.Digest].body)
	}
	for _, a := range architectures {
		p := m.platforms[a]
		wantFile(t, dir, p.manifest.Digest, m.manifests[p.manifest.Digest].body)
		wantFile(t, dir, p.config.Digest, m.blobs[p.config.Digest])
		for _, l := range p.layers {
			wantFile(t, dir, l.Digest, m.blobs[l.Digest])
		}
	}
}

// wantFile fails unless a layout has a blob with these bytes.
func wantFile(t *testing.T, dir string, d digest.Digest, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", d.Encoded()))
	if err != nil {
		t.Errorf("pulled layout: %v", err)
		return
	}
	wantBytes(t, d, got, want)
}

// wantBytes compares content without printing it.
func wantBytes(t *testing.T, d digest.Digest, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes with digest %s, want %d", d, len(got), digest.FromBytes(got), len(want))
	}
}

// wantDigest fails unless a tool printed the digest of the index.
func wantDigest(t *testing.T, m *image, printed string) {
	t.Helper()
	if !strings.Contains(printed, m.index.Digest.String()) {
		t.Errorf("want digest %s in: %s", m.index.Digest, printed)
	}
}
