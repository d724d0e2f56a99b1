package tour

import (
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// go-containerregistry reads through the cache with no listener. The host in a reference
// may be any: the transport answers for all.
func TestGoContainerRegistry(t *testing.T) {
	c, up := cachetest.New(t)
	want := up.AddImage("team/api", "v1", upstreamtest.Layers(3, 10_000))
	options := []remote.Option{remote.WithContext(t.Context()), remote.WithTransport(c.Transport())}
	ref, err := name.NewTag("cache.example.com/hub/team/api:v1")
	if err != nil {
		t.Fatal(err)
	}

	img, err := remote.Image(ref, options...)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := img.Digest(); err != nil || got.String() != want.Digest.String() {
		t.Errorf("%v is %s, want %s: %v", ref, got, want.Digest, err)
	}
	if err := validate.Image(img); err != nil { // it reads all layers
		t.Errorf("what came through is not the image: %v", err)
	}
	if tags, err := remote.List(ref.Context(), options...); err != nil || !slices.Equal(tags, []string{"v1"}) {
		t.Errorf("the tags are %q: %v", tags, err)
	}
}
