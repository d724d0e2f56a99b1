package tour

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"

	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// oras-go reads from a repository of the cache, without HTTP, with what refers to an
// image.
func TestOras(t *testing.T) {
	c, up := cachetest.New(t)
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	sbom := up.AddArtifact("team/api", "", "application/vnd.example.sbom", img, []byte("what is in it"))

	dst := memory.New() // or a registry, an OCI layout, a file
	desc, err := oras.ExtendedCopy(t.Context(), c.Repository("hub/team/api"), "v1", dst, "v1", oras.DefaultExtendedCopyOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []ocispec.Descriptor{desc, sbom.Descriptor} {
		if there, err := dst.Exists(t.Context(), want); err != nil || !there {
			t.Errorf("%s is not there: %v", want.Digest, err)
		}
	}
}
