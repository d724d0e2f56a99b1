package upstreamtest_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// far returns a repository of another registry, as oras reads it.
func far(t *testing.T, r *upstreamtest.Registry, name string) *remote.Repository {
	t.Helper()
	repo, err := remote.NewRepository("far.example/" + name)
	if err != nil {
		t.Fatal(err)
	}
	repo.Client = &http.Client{Transport: r.Transport()}
	return repo
}

func TestAddFromARegistry(t *testing.T) {
	from, up := upstreamtest.NewHandler(), upstreamtest.NewRegistry(t)
	index := from.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
	one := from.AddImage("team/app", "one", upstreamtest.Layers(1, 500))
	sbom := from.AddArtifact("team/app", "", "application/spdx+json", index, []byte("{}"))
	images, err := up.AddFrom(t.Context(), "copied/app", far(t, from, "team/app"), "v1", one.Digest.String())
	if err != nil || len(images) != 2 {
		t.Fatalf("%+v, %v", images, err)
	}
	got := images[0]
	if got.Digest != index.Digest || !bytes.Equal(got.Manifest, index.Manifest) || len(got.Children) != 2 || got.Repository != "copied/app" {
		t.Errorf("%+v", got)
	}
	for i, child := range got.Children {
		want := index.Children[i]
		if child.Digest != want.Digest || child.Config.Digest != want.Config.Digest || len(child.Layers) != 2 || child.Platform.Architecture != want.Platform.Architecture {
			t.Errorf("%+v", child)
		}
		for _, l := range child.Layers {
			if int64(len(up.Blob("copied/app", l.Digest))) != l.Size {
				t.Errorf("the layer %s is not there", l.Digest)
			}
		}
	}
	if images[1].Digest != one.Digest {
		t.Errorf("%+v", images[1])
	}
	for path, want := range map[string]string{
		"manifests/v1":                           string(index.Manifest),
		"manifests/" + one.Digest.String():       string(one.Manifest),
		"manifests/" + sbom.Digest.String():      string(sbom.Manifest),
		"referrers/" + index.Digest.String():     sbom.Digest.String(),
		"blobs/" + one.Layers[0].Digest.String(): string(from.Blob("team/app", one.Layers[0].Digest)),
	} {
		if _, body, err := get(t, up.URL()+"/v2/copied/app/"+path); err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d bytes, %v", path, len(body), err)
		}
	}
	if resp, _, _ := get(t, up.URL()+"/v2/copied/app/manifests/one"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("what is added by its digest has a tag: %d", resp.StatusCode)
	}
}

func TestAddFromAPlaceOfLess(t *testing.T) {
	from, up := upstreamtest.NewHandler(), upstreamtest.NewRegistry(t)
	img := from.AddImage("team/app", "v1", upstreamtest.Layers(1, 500))
	store := memory.New()
	if _, err := oras.Copy(t.Context(), far(t, from, "team/app"), "v1", store, "v1", oras.DefaultCopyOptions); err != nil {
		t.Fatal(err)
	}
	for _, src := range []oras.ReadOnlyTarget{store, struct{ oras.ReadOnlyTarget }{store}} {
		if images, err := up.AddFrom(t.Context(), "a", src, "v1"); err != nil || len(images) != 1 || images[0].Digest != img.Digest {
			t.Errorf("%+v, %v", images, err)
		}
	}
	images, err := up.AddFrom(t.Context(), "a", store, "v1", "v2")
	if err == nil || !strings.Contains(err.Error(), "adding v2 to a") || len(images) != 1 {
		t.Errorf("%d, %v", len(images), err)
	}
}
