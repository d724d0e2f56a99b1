package cache_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// pullImage pulls an image by digest, as a client does that has read its index.
func (c *clock) pullImage(img upstreamtest.Image) {
	c.Helper()
	c.manifest(img.Digest.String())
	c.wantBlob(img.Config.Digest)
	for _, l := range img.Layers {
		c.wantBlob(l.Digest)
	}
	c.pass(0)
}

// wantEvents compares what there were events about since the last call: an image
// by its name here, a tag by itself.
func (c *clock) wantEvents(names map[string]upstreamtest.Image, want ...string) {
	c.Helper()
	c.pass(0)
	var got []string
	for _, ev := range c.events {
		name := ev.Target.Tag
		for n, img := range names {
			if name == "" && img.Digest.String() == ev.Target.Digest {
				name = n
			}
		}
		got = append(got, name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.Errorf("events %q, want %q", got, want)
	}
	c.events = nil
}

// wantWhole pulls everything again with the upstream gone.
func (c *clock) wantWhole(tag string, images ...upstreamtest.Image) {
	c.Helper()
	if n := len(c.cache.Copies()); n != 0 {
		c.Errorf("%d copies are left: %s", n, c.cache.Copies()[0].State)
	}
	c.up.Fail(upstreamtest.Fault{Status: 503})
	c.manifest(tag)
	for _, img := range images {
		c.pullImage(img)
	}
	c.up.Heal()
}

// An index in an index is complete with its first image, and so is the one that
// names it.
func TestNestedIndexes(t *testing.T) {
	inBubble(t, func(c *clock) {
		amd := c.up.AddImage("team/api", "", upstreamtest.Layers(2, 1000))
		arm := c.up.AddMultiPlatform("team/api", "", [][]byte{[]byte("base"), []byte("arm")}, "arm64").Children[0]
		inner := c.up.AddIndex("team/api", "", arm)
		inner.Platform = nil
		outer := c.up.AddIndex("team/api", "v1", amd, inner)
		names := map[string]upstreamtest.Image{"amd": amd, "arm": arm, "inner": inner, "outer": outer}
		c.manifest("v1")
		c.manifest(inner.Digest.String())
		c.pass(0)
		c.wantEvents(names)
		c.pullImage(arm)
		c.wantEvents(names, "arm", "inner", "outer", "v1")
		c.wantWhole("v1", arm)
		c.pullImage(amd)
		c.wantEvents(names, "amd")
	})
}

// With all platforms, what nested indexes name is copied too.
func TestNestedIndexesOfARule(t *testing.T) {
	inBubble(t, func(c *clock) {
		amd := c.up.AddImage("team/api", "", upstreamtest.Layers(2, 1000))
		arm := c.up.AddMultiPlatform("team/api", "", [][]byte{[]byte("base"), []byte("arm")}, "arm64").Children[0]
		inner := c.up.AddIndex("team/api", "", arm)
		outer := c.up.AddIndex("team/api", "v1", amd, inner)
		names := map[string]upstreamtest.Image{"amd": amd, "arm": arm, "inner": inner, "outer": outer}
		c.manifest("v1")
		c.wantEvents(names, "amd", "arm", "inner", "outer", "v1")
		c.wantWhole("v1", amd, arm)
	}, ruled(func(r *rule.Rule) { r.Platforms = []string{"all"} }))
}

// An attestation alone makes no index complete, and is copied with the image that
// it is about when that is selected.
func TestAttestations(t *testing.T) {
	add := func(c *clock) (map[string]upstreamtest.Image, upstreamtest.Image, upstreamtest.Image) {
		amd := c.up.AddImage("team/api", "", upstreamtest.Layers(2, 1000))
		attestation := c.up.AddAttestation("team/api", amd)
		index := c.up.AddIndex("team/api", "v1", amd, attestation)
		return map[string]upstreamtest.Image{"amd": amd, "attestation": attestation, "index": index}, amd, attestation
	}
	inBubble(t, func(c *clock) {
		names, amd, attestation := add(c)
		c.manifest("v1")
		c.pullImage(attestation)
		c.wantEvents(names, "attestation")
		c.pullImage(amd)
		c.wantEvents(names, "amd", "index", "v1")
		c.wantWhole("v1", amd, attestation)
	})
	inBubble(t, func(c *clock) {
		names, amd, attestation := add(c)
		c.manifest("v1")
		c.wantEvents(names, "amd", "attestation", "index", "v1")
		c.wantWhole("v1", amd, attestation)
	}, ruled(func(r *rule.Rule) { r.Platforms = []string{"linux/amd64"} }))
}

// A digest that comes twice is fetched once: the same layer twice, the same image
// for two platforms.
func TestRepeatedDigests(t *testing.T) {
	inBubble(t, func(c *clock) {
		layer := upstreamtest.Bytes(1, 1000)
		img := c.up.AddImage("team/api", "", [][]byte{layer, layer})
		index := c.up.AddIndex("team/api", "v1", img, img)
		names := map[string]upstreamtest.Image{"img": img, "index": index}
		c.manifest("v1")
		c.pullImage(img)
		c.wantEvents(names, "img", "index", "v1")
		if n := c.blobs(img.Layers[0].Digest); n != 1 {
			c.Errorf("the layer was fetched %d times", n)
		}
		c.wantWhole("v1", img)
	})
}

// Artifacts with an empty config, indexes that name nothing, and layers that lie
// elsewhere.
func TestOddManifests(t *testing.T) {
	inBubble(t, func(c *clock) {
		artifact := c.up.AddArtifact("team/api", "sbom", "application/spdx+json", upstreamtest.Image{}, []byte("sbom"))
		c.manifest("sbom")
		c.wantEvents(map[string]upstreamtest.Image{"artifact": artifact}, "artifact", "sbom")

		empty := c.up.AddIndex("team/api", "empty")
		c.manifest("empty")
		c.wantEvents(map[string]upstreamtest.Image{"index": empty}, "empty", "index")

		foreign := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` +
			artifact.Layers[0].Digest.String() + `","size":4},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:` +
			strings.Repeat("a", 64) + `","size":5,"urls":["https://elsewhere.example.com/l"]}]}`
		desc := c.up.AddManifest("team/api", "foreign", "application/vnd.oci.image.manifest.v1+json", []byte(foreign))
		c.manifest("foreign")
		c.wantEvents(map[string]upstreamtest.Image{"img": {Descriptor: desc}}, "foreign", "img")
		c.wantWhole("foreign")
	})
}
