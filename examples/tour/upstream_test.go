package tour

import (
	"context"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// countingOpener wraps each repository that the inner Opener opens. A cache opens one
// when it meets a rule's repository first, and may open it again later: what is counted
// is kept here and not in the repository.
type countingOpener struct {
	upstream.Opener
	manifests atomic.Int64
}

// Open implements upstream.Opener.
func (o *countingOpener) Open(s upstream.Source, a auth.Authenticator) (upstream.Repository, error) {
	inner, err := o.Opener.Open(s, a)
	if err != nil {
		return nil, err
	}
	return &countingRepository{inner, &o.manifests}, nil
}

type countingRepository struct {
	upstream.Repository
	manifests *atomic.Int64
}

// Manifest sees every manifest that is fetched: ManifestUnless of the inner repository,
// which would be used in its place, is not found through Unwrap.
func (r *countingRepository) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	r.manifests.Add(1)
	return r.Repository.Manifest(ctx, reference)
}

// Unwrap lets upstream.As find the abilities of the inner repository that only add
// something: lists of tags and of referrers. Without it clients that ask for a list get 405.
func (r *countingRepository) Unwrap() upstream.Repository { return r.Repository }

// A wrapped upstream sees what it overrides, and everything else goes on working.
func TestUpstreamThatCountsManifests(t *testing.T) {
	c, up := cachetest.New(t)
	opener := &countingOpener{Opener: c.Upstream}
	c.Upstream = opener
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	up.AddArtifact("team/api", "", "application/vnd.example.sbom", img, []byte("what is in it"))

	pull(t, c, "hub/team/api", "v1")
	pull(t, c, "hub/team/api", "v1") // a HEAD says that the tag has not moved
	if n := opener.manifests.Load(); n != 1 || up.Count("GET", "manifest", "") != 1 {
		t.Errorf("%d manifests were fetched, want 1", n)
	}
	var tags []string
	for tag, err := range c.Tags(t.Context(), "hub/team/api", "") {
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, tag)
	}
	if len(tags) != 1 || tags[0] != "v1" {
		t.Errorf("the tags are %q", tags)
	}
	referrers := 0
	for _, err := range c.Referrers(t.Context(), "hub/team/api", img.Digest, "") {
		if err != nil {
			t.Fatal(err)
		}
		referrers++
	}
	if referrers != 1 {
		t.Errorf("%d artifacts refer to the image, want 1", referrers)
	}
}
