package cache_test

import (
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestTagMovesToWhatIsStored: a tag that moves to a digest that is stored costs one HEAD,
// and the next pull gets that image.
func TestTagMovesToWhatIsStored(t *testing.T) {
	inBubble(t, func(c *clock) {
		first := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		second := c.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 2000))
		c.manifest("v1")
		c.manifest("v2")
		c.pass(0)
		c.up.Reset()
		c.up.Tag("team/api", "v2", first.Digest)
		for range 2 {
			desc, _, err := c.cache.Manifest(c.Context(), "app/api", "v2")
			if err != nil || desc.Digest != first.Digest {
				c.Errorf("%v, %v; it was %v", desc.Digest, err, second.Digest)
			}
			c.pass(0)
		}
		if n := c.up.Count("GET", "manifest", ""); n != 0 {
			c.Errorf("%d manifests were fetched again", n)
		}
		if tag, err := c.store.Tag(c.Context(), "app/api", "v2"); err != nil || tag.Digest != first.Digest {
			c.Errorf("%v, %v", tag.Digest, err)
		}
	})
}
