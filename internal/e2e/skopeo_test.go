package e2e

import (
	"path/filepath"
	"testing"
)

// TestSkopeo copies an index with all its platforms by tag. Skopeo opens a new
// connection for every request.
func TestSkopeo(t *testing.T) {
	skopeo, s := tool(t, "skopeo"), newStack(t)
	s.story(t, "skopeo", []string{"amd64", "arm64"}, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "out")
		command(t, skopeo, "--insecure-policy", "copy", "--all", "--src-tls-verify=false",
			"docker://"+s.reference(), "oci:"+dir+":"+tag)
		wantLayout(t, dir, s.image, true, "amd64", "arm64")
	})
}
