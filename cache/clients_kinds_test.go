package cache_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// everything is a rule that copies all platforms and what refers to them.
var everything = rule.Rule{Platforms: []string{"all"}, Referrers: true}

// namedRule is the rule of a clock with other settings.
func namedRule(r rule.Rule) rule.Rule {
	r.Name, r.Source, r.Target = "team", source+"/team/*", "app/*"
	return r
}

// read does what a client does that has all layers already: it reads manifests and
// configs.
func (c *clock) read(images ...upstreamtest.Image) {
	c.Helper()
	for _, img := range images {
		c.manifest(img.Digest.String())
		if _, r, err := c.cache.Blob(c.Context(), "app/api", img.Config.Digest); err != nil {
			c.Error(err)
		} else {
			_ = r.Close()
		}
	}
}

// TestClientThatHasAllLayers: the only image of an index whose manifest and config
// a client reads within a minute counts as pulled, though no layer is asked for; of
// one that reads all of them the layers tell.
func TestClientThatHasAllLayers(t *testing.T) {
	for name, c := range map[string]struct {
		pull func(c *clock, img upstreamtest.Image)
		want []int // children that are copied
	}{
		"docker": {func(c *clock, img upstreamtest.Image) {
			_, _ = c.cache.Resolve(c.Context(), "app/api", "v1")
			c.manifest(img.Digest.String())
			c.read(img.Children[1])
		}, []int{1}},
		"by tag": {func(c *clock, img upstreamtest.Image) {
			c.manifest("v1")
			c.read(img.Children[0])
		}, []int{0}},
		"ctr": {func(c *clock, img upstreamtest.Image) {
			_, _ = c.cache.Resolve(c.Context(), "app/api", "v1")
			c.manifest(img.Digest.String())
			c.read(img.Children...)
		}, nil},
		"ctr, slowly": {func(c *clock, img upstreamtest.Image) {
			c.manifest("v1")
			for _, child := range img.Children {
				c.read(child)
				c.pass(20 * time.Second)
			}
		}, nil},
		"manifests alone": {func(c *clock, img upstreamtest.Image) {
			c.manifest("v1")
			c.manifest(img.Children[0].Digest.String())
		}, nil},
		"ctr that lacks the layers of one": {func(c *clock, img upstreamtest.Image) {
			c.manifest("v1")
			c.read(img.Children...)
			for _, l := range img.Children[2].Layers {
				if _, r, err := c.cache.Blob(c.Context(), "app/api", l.Digest); err == nil {
					_ = r.Close()
				}
			}
		}, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *clock) {
				img := b.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64", "s390x")
				c.pull(b, img)
				b.pass(5 * time.Minute)
				b.up.Fail(upstreamtest.Fault{Status: 503})
				for i, child := range img.Children {
					copied := false
					for _, want := range c.want {
						copied = copied || want == i
					}
					x, err := b.cache.Explain(b.Context(), "app/api", child.Digest.String())
					if err != nil || x.Stored != copied {
						b.Errorf("child %d: stored %v, want %v (%s, %v)", i, x.Stored, copied, x.Text, err)
					}
				}
				x, err := b.cache.Explain(b.Context(), "app/api", "v1")
				if err != nil || x.Stored != (len(c.want) > 0) {
					b.Errorf("the tag: %s, %v", x.Text, err)
				}
				if n := len(c.want); n > 0 && len(b.events) != 3 || n == 0 && len(b.events) != 0 {
					b.Errorf("%d events", len(b.events))
				}
			})
		})
	}
}

// A client that reads the other platform of an index that is complete is one more
// pull, and one that reads both is not.
func TestSecondPlatformOfACompleteIndex(t *testing.T) {
	for both, want := range map[bool]bool{false: true, true: false} {
		inBubble(t, func(c *clock) {
			img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
			c.manifest("v1")
			c.manifest(img.Children[0].Digest.String())
			for _, l := range append(img.Children[0].Layers, img.Children[0].Config) {
				if _, r, err := c.cache.Blob(c.Context(), "app/api", l.Digest); err == nil {
					_ = r.Close()
				}
			}
			c.pass(time.Hour)
			c.manifest("v1")
			if both {
				c.read(img.Children...)
			} else {
				c.read(img.Children[1])
			}
			c.pass(5 * time.Minute)
			x, err := c.cache.Explain(c.Context(), "app/api", img.Children[1].Digest.String())
			if err != nil || x.Stored != want {
				c.Errorf("both %v: stored %v, %v", both, x.Stored, err)
			}
		})
	}
}

// TestReadManifestsAreKept: the manifests of an index that a client has read can be
// read again with the upstream gone, for long and by a later process; but they are
// no complete images, and no event tells of them.
func TestReadManifestsAreKept(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint(restart), func(t *testing.T) {
			inBubble(t, func(c *clock) {
				img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64", "s390x")
				c.manifest("v1")
				c.read(img.Children...) // as ctr does
				for _, l := range img.Children[0].Layers {
					if _, r, err := c.cache.Blob(c.Context(), "app/api", l.Digest); err == nil {
						_ = r.Close()
					}
				}
				c.pass(48 * time.Hour) // longer than anybody waits for the other layers
				if restart {
					c.stop()
					c.start()
				}
				c.up.Fail(upstreamtest.Fault{Status: 503})
				c.manifest("v1")
				c.read(img.Children...)
				x, err := c.cache.Explain(c.Context(), "app/api", img.Children[1].Digest.String())
				if err != nil || x.Stored {
					c.Errorf("what was only read counts as stored: %s %v", x.Text, err)
				}
				if len(c.events) != 3 {
					c.Errorf("%d events, want those of one platform", len(c.events))
				}
				other := c.up.AddImage("team/api", "", upstreamtest.Layers(1, 50))
				if _, _, err := c.cache.Manifest(c.Context(), "app/api", other.Digest.String()); err == nil {
					c.Error("what was never read can be read")
				}
				// It is deleted like everything else.
				if err := c.cache.Delete(c.Context(), "app/api", img.Children[2].Digest.String()); err != nil {
					c.Error(err)
				}
				c.pass(time.Second)
				if _, _, err := c.cache.Manifest(c.Context(), "app/api", img.Children[2].Digest.String()); err == nil {
					c.Error("a deleted manifest can be read")
				}
			})
		})
	}
}

// Another source does not lend what was read from the former one.
func TestReadManifestsOfAReplacedRule(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
		c.manifest("v1")
		c.read(img.Children...)
		c.pass(48 * time.Hour)
		r := namedRule(rule.Rule{})
		r.Source = source + "/other/*"
		if err := c.rules.Replace(r); err != nil {
			c.Fatal(err)
		}
		if _, _, err := c.cache.Manifest(c.Context(), "app/api", img.Children[1].Digest.String()); err == nil {
			c.Error("a manifest of the former source can be read")
		}
	})
}

// TestPrefetchOfAnotherPlatform: an image without an index that is for another
// platform is an error, and not silence.
func TestPrefetchOfAnotherPlatform(t *testing.T) {
	s := newStory(t)
	s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000)) // linux/amd64
	img := s.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 1000))
	s.up.AddArtifact("team/api", "sbom", "application/sbom", img, []byte("parts"))
	for _, c := range []struct {
		tag       string
		platforms []string
		words     string
	}{
		{"v1", []string{"linux/arm64"}, "is for linux/amd64, not for linux/arm64"},
		{"v1", []string{"windows/amd64", "linux/arm/v7"}, "is for linux/amd64"},
		{"v1", []string{"linux/amd64"}, ""},
		{"v1", []string{"linux/arm64", "linux/amd64"}, ""},
		{"v1", []string{"all"}, ""},
		{"v1", nil, ""},
		{"sbom", []string{"linux/arm64"}, ""},
	} {
		err := s.cache.Prefetch(t.Context(), "app/api", c.tag, cache.PrefetchOptions{Platforms: c.platforms})
		if c.words == "" && err != nil || c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s for %v: %v, want %q", c.tag, c.platforms, err, c.words)
		}
	}
}
