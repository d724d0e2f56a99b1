package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
)

// manifests returns the digests that Manifests yields.
func manifests(t *testing.T, s ManifestLister, repo string) (digests []digest.Digest) {
	t.Helper()
	for info, err := range s.Manifests(t.Context(), repo) {
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, info.Digest)
	}
	return digests
}

func TestManifestsSkipsDamagedEntries(t *testing.T) {
	d := newDir(t, t.TempDir())
	var all []Info
	for i := range 3 {
		info, text := content1(fmt.Sprint("manifest", i), 300)
		info.MediaType = "application/vnd.oci.image.manifest.v1+json"
		if err := create(t, d, "a", info, text); err != nil {
			t.Fatal(err)
		}
		all = append(all, info)
	}
	c, _ := contentOf(all[0].Digest)
	d = spoil(t, d, "repos", linkKey("a", keyManifest, c))
	got := manifests(t, d, "a")
	if len(got) != 2 || got[0] == all[0].Digest || got[1] == all[0].Digest || got[0] >= got[1] {
		t.Errorf("got %v", got)
	}
}

func TestManifestsEndsWithItsContext(t *testing.T) {
	for name, s := range map[string]Store{"Mem": &Mem{}, "Dir": newDir(t, t.TempDir())} {
		for i := range 3 {
			info, text := content1(fmt.Sprint("manifest", i), 300)
			info.MediaType = "application/vnd.oci.image.manifest.v1+json"
			if err := create(t, s, "a", info, text); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var yielded int
		var last error
		for _, err := range s.(ManifestLister).Manifests(ctx, "a") {
			yielded++
			last = err
			cancel()
		}
		if yielded != 2 || !errors.Is(last, context.Canceled) {
			t.Errorf("%s: %d steps, the last with %v; want a manifest and then the error of ctx", name, yielded, last)
		}
	}
}
