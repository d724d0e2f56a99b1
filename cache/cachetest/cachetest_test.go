package cachetest_test

import (
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// One pull, and when the copy is done, another one without the upstream.
func TestNew(t *testing.T) {
	c, up := cachetest.New(t)
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	for range 2 {
		desc, _, err := c.Manifest(t.Context(), cachetest.Prefix+"team/api", "v1")
		if err != nil || desc.Digest != img.Digest {
			t.Fatalf("%v, %v", desc, err)
		}
		if err := c.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		up.Stop()
	}
	x, err := c.Explain(t.Context(), cachetest.Prefix+"team/api", "v1")
	if err != nil || !x.Stored || x.Rule != cachetest.Rule {
		t.Errorf("%+v, %v", x, err)
	}
}

// Fields can be set before the first use.
func TestFields(t *testing.T) {
	c, up := cachetest.New(t)
	c.MaxHops = 1
	c.Limits = cache.Limits{Jobs: 1}
	up.AddImage("team/api", "v1", nil)
	if _, err := c.Resolve(t.Context(), "hub/team/api", "v1"); err != nil {
		t.Error(err)
	}
}
