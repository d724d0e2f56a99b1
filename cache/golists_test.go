package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

var (
	_ oras.ReadOnlyGraphTarget  = (*cache.Repository)(nil)
	_ registry.ReferenceFetcher = (*cache.Repository)(nil)
	_ registry.TagLister        = (*cache.Repository)(nil)
)

// all collects what a list yields.
func all[T any](seq iter.Seq2[T, error]) (list []T, err error) {
	for v, e := range seq {
		if e != nil {
			return list, e
		}
		list = append(list, v)
	}
	return list, nil
}

// TestListsInGo: the lists of a covered repository are the upstream's, whatever the size
// of its pages; those of the catalog and of manifests are what is stored.
func TestListsInGo(t *testing.T) {
	c, up := cachetest.New(t)
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	for n := range 12 {
		up.Tag("team/api", fmt.Sprintf("t%02d", n), img.Digest)
	}
	tags, err := all(c.Tags(t.Context(), "hub/team/api", ""))
	if err != nil || len(tags) != 13 {
		t.Errorf("%v, %v", tags, err)
	}
	if tags, err = all(c.Tags(t.Context(), "hub/team/api", "t09")); err != nil || !slices.Equal(tags, []string{"t10", "t11", "v1"}) {
		t.Errorf("after t09: %v, %v", tags, err)
	}
	for tag := range c.Tags(t.Context(), "hub/team/api", "") { // one may stop
		if tag != "t00" {
			t.Error(tag)
		}
		break
	}
	if names, err := all(c.Repositories(t.Context(), "")); err != nil || len(names) != 0 {
		t.Errorf("nothing is stored: %v, %v", names, err)
	}
	var pulled time.Time
	if _, _, err := c.Manifest(t.Context(), "hub/team/api", "v1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	pulled = time.Now()
	if _, _, err := c.Manifest(t.Context(), "hub/team/api", "v1"); err != nil {
		t.Fatal(err)
	}
	if names, err := all(c.Repositories(t.Context(), "")); err != nil || !slices.Equal(names, []string{"hub/team/api"}) {
		t.Errorf("%v, %v", names, err)
	}
	mans, err := all(c.Manifests(t.Context(), "hub/team/api"))
	if err != nil || len(mans) != 1 || mans[0].Digest != img.Digest || mans[0].LastUse.Before(pulled) {
		t.Fatalf("%+v, %v", mans, err)
	}
	want := img.Size + img.Config.Size
	for _, l := range img.Layers {
		want += l.Size
	}
	if mans[0].Bytes != want {
		t.Errorf("%d bytes, want %d", mans[0].Bytes, want)
	}
}

// TestExtendedCopy: oras copies an image with what refers to it through the cache.
func TestExtendedCopy(t *testing.T) {
	c, up := cachetest.New(t)
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	sbom := up.AddArtifact("team/api", "", "application/vnd.example.sbom", img, []byte("what is in it"))
	dst := memory.New()
	desc, err := oras.ExtendedCopy(t.Context(), c.Repository("hub/team/api"), "v1", dst, "v1", oras.DefaultExtendedCopyOptions)
	if err != nil || desc.Digest != img.Digest {
		t.Fatalf("%v, %v", desc, err)
	}
	if ok, err := dst.Exists(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: sbom.Digest, Size: sbom.Size}); err != nil || !ok {
		t.Errorf("the SBOM is not there: %v", err)
	}
	repo := c.Repository("hub/team/api")
	if _, body, err := repo.FetchReference(t.Context(), "v1"); err != nil {
		t.Error(err)
	} else if data, err := io.ReadAll(body); err != nil || int64(len(data)) != img.Size {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	var pages [][]string
	if err := repo.Tags(t.Context(), "", func(tags []string) error { pages = append(pages, tags); return nil }); err != nil || len(pages) != 1 {
		t.Errorf("%v, %v", pages, err)
	}
	stop := errors.New("enough")
	if err := repo.Tags(t.Context(), "", func([]string) error { return stop }); err != stop {
		t.Error(err)
	}
	refs, err := all(c.Referrers(t.Context(), "hub/team/api", img.Digest, "application/vnd.example.other"))
	if err != nil || len(refs) != 0 {
		t.Errorf("%v, %v", refs, err)
	}
}

// TestListsInGoOfAPlainRepository: without a rule they are what is stored.
func TestListsInGoOfAPlainRepository(t *testing.T) {
	c, up := cachetest.New(t)
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	up.AddArtifact("team/api", "sbom", "application/vnd.example.sbom", img, []byte("what is in it"))
	for _, tag := range []string{"v1", "sbom"} {
		if err := c.Prefetch(t.Context(), "hub/team/api", tag, cache.PrefetchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	plain := &cache.Cache{Store: c.Store}
	defer func() { _ = plain.Shutdown(context.Background()) }()
	if tags, err := all(plain.Tags(t.Context(), "hub/team/api", "")); err != nil || !slices.Equal(tags, []string{"sbom", "v1"}) {
		t.Errorf("%v, %v", tags, err)
	}
	for kind, want := range map[string]int{"": 1, "application/vnd.example.sbom": 1, "application/vnd.example.other": 0} {
		if refs, err := all(plain.Referrers(t.Context(), "hub/team/api", img.Digest, kind)); err != nil || len(refs) != want {
			t.Errorf("of type %q: %v, %v", kind, refs, err)
		}
	}
	if mans, err := all(plain.Manifests(t.Context(), "hub/team/api")); err != nil || len(mans) != 2 {
		t.Errorf("%v, %v", mans, err)
	}
}

// silent is a store that cannot list.
type silent struct{ store.Store }

// TestListsInGoThatFail: every error is an *Error, with the code of what is wrong.
func TestListsInGoThatFail(t *testing.T) {
	c, up := cachetest.New(t)
	img := up.AddImage("team/api", "v1", nil)
	up.Fail(upstreamtest.Fault{Status: 403})
	lists := func(c *cache.Cache, repo string) map[string]error {
		errs := map[string]error{}
		_, errs["tags"] = all(c.Tags(t.Context(), repo, ""))
		_, errs["referrers"] = all(c.Referrers(t.Context(), repo, img.Digest, ""))
		_, errs["manifests"] = all(c.Manifests(t.Context(), repo))
		return errs
	}
	for name, err := range lists(c, "hub/team/api") {
		if name != "manifests" && !errors.Is(err, cache.CodeDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range lists(c, "Hub/x") {
		if !errors.Is(err, cache.CodeNameInvalid) {
			t.Errorf("%s of a bad name: %v", name, err)
		}
	}
	mute := &cache.Cache{Store: silent{&store.Mem{}}}
	defer func() { _ = mute.Shutdown(context.Background()) }()
	errs := lists(mute, "hub/team/api")
	_, errs["repositories"] = all(mute.Repositories(t.Context(), ""))
	for name, err := range errs {
		if !errors.Is(err, cache.CodeUnsupported) {
			t.Errorf("%s of a store that cannot list: %v", name, err)
		}
	}
	for _, d := range []digest.Digest{"sha256:x", "v1", ""} { // a tag is no digest
		if _, err := all(c.Referrers(t.Context(), "hub/team/api", d, "")); !errors.Is(err, cache.CodeDigestInvalid) {
			t.Errorf("referrers of %q: %v", d, err)
		}
		if _, _, err := c.Blob(t.Context(), "hub/team/api", d); !errors.Is(err, cache.CodeDigestInvalid) {
			t.Errorf("blob %q: %v", d, err)
		}
		if _, err := c.Repository("hub/team/api").Exists(t.Context(), ocispec.Descriptor{Digest: d}); !errors.Is(err, cache.CodeDigestInvalid) {
			t.Errorf("existence of %q: %v", d, err)
		}
	}
	var e *cache.Error
	if _, err := all(c.Tags(t.Context(), "hub/team/api", "")); !errors.As(err, &e) || e.Status != 403 {
		t.Error(err)
	}
	if _, ok := upstream.ClassOf(e); !ok {
		t.Errorf("%v does not wrap what the upstream said", e)
	}
}
