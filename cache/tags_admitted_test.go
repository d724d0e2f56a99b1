package cache_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestAdmitSeesWhatATagMovesTo: a digest that was admitted when only its name was known,
// by a HEAD, is judged again with its content before the tag moves; a tag that may not
// move keeps the former image, and its copy is no failure.
func TestAdmitSeesWhatATagMovesTo(t *testing.T) {
	inBubble(t, func(c *clock) {
		first := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(0)
		second := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		if _, err := c.cache.Resolve(c.Context(), "app/api", "v1"); err != nil {
			c.Fatal(err)
		}
		c.manifest(second.Digest.String())
		c.pass(0)
		if tag, err := c.store.Tag(c.Context(), "app/api", "v1"); err != nil || tag.Digest != first.Digest {
			c.Errorf("the tag stands for %v, want the first image %v: %v", tag.Digest, first.Digest, err)
		}
		if x, err := c.cache.Explain(c.Context(), "app/api", second.Digest.String()); err != nil || !x.Stored || x.Copy != nil {
			c.Errorf("%+v, %v", x, err)
		}
	}, func(c *clock) {
		c.cache.Admit = func(_ context.Context, candidate cache.Candidate) error {
			if candidate.Manifest != nil && candidate.Former != "" {
				return errors.New("its content is not good")
			}
			return nil
		}
	})
}
