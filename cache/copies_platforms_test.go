package cache_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// ruled replaces the rule by one with further fields.
func ruled(change func(*rule.Rule)) func(*clock) {
	return func(c *clock) {
		r := rule.Rule{Name: "team", Source: source + "/team/*", Target: "app/*"}
		change(&r)
		if err := c.rules.Replace(r); err != nil {
			c.Fatal(err)
		}
	}
}

// wantStored compares which platforms of an index are complete.
func (c *clock) wantStored(index upstreamtest.Image, archs ...string) {
	c.Helper()
	var got []string
	for _, child := range index.Children {
		x, err := c.cache.Explain(c.Context(), "app/api", child.Digest.String())
		if err != nil {
			c.Fatal(err)
		}
		if x.Stored {
			got = append(got, child.Platform.Architecture)
		}
	}
	if !slices.Equal(got, archs) {
		c.Errorf("%v are stored, want %v", got, archs)
	}
}

// wantTags compares for which tags there were events.
func (c *clock) wantTags(want ...string) {
	c.Helper()
	var got []string
	for _, ev := range c.events {
		if ev.Target.Tag != "" {
			got = append(got, ev.Target.Tag)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		c.Errorf("events for the tags %v, want %v", got, want)
	}
}

func TestRulePlatforms(t *testing.T) {
	for name, platforms := range map[string][]string{
		"amd64 arm64 s390x": {"all"}, "arm64": {"linux/arm64"}, "amd64 s390x": {"linux/s390x", "linux/amd64"},
	} {
		inBubble(t, func(c *clock) {
			img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64", "s390x")
			c.manifest("v1") // the index alone: nobody pulls a platform
			c.pass(0)
			want := strings.Fields(name)
			c.wantStored(img, want...)
			c.wantTags("v1")
			if n := len(c.cache.Copies()); n != 0 || len(c.events) != 2+len(want) {
				c.Errorf("%s: %d copies left, %d events", name, n, len(c.events))
			}
		}, ruled(func(r *rule.Rule) { r.Platforms = platforms }))
	}
}

// A tag moves when all selected platforms are here that can be had: one that is
// late is waited for, one that its source does not have is not.
func TestTagWaitsForSelectedPlatforms(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64", "s390x")
		c.up.Delete("team/api", img.Children[2].Digest)
		late := img.Children[1].Layers[1].Digest
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: late.String(), Status: 503})
		c.manifest("v1")
		c.pass(time.Minute)
		c.wantStored(img, "amd64")
		c.wantTags()
		x, err := c.cache.Explain(c.Context(), "app/api", "v1")
		if err != nil || x.Copy == nil || x.Copy.State != cache.CopyWaiting {
			c.Errorf("%+v, %v", x, err)
		}
		c.up.Heal()
		c.pass(15 * time.Minute)
		c.wantStored(img, "amd64", "arm64")
		c.wantTags("v1")
	}, ruled(func(r *rule.Rule) { r.Platforms = []string{"all"} }))
}

// A platform that is parked holds nobody up.
func TestTagDoesNotWaitForTheParked(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: img.Children[1].Layers[1].Digest.String(), Flip: true})
		c.manifest("v1")
		c.pass(6 * time.Hour)
		c.wantStored(img, "amd64")
		c.wantTags("v1")
		if s := c.only("parked"); s.Digest != img.Children[1].Digest {
			c.Errorf("%+v", s)
		}
	}, ruled(func(r *rule.Rule) { r.Platforms = []string{"all"} }))
}

// What refers to what is copied is copied too, and what refers to that.
func TestRuleReferrers(t *testing.T) {
	for _, api := range []bool{true, false} {
		inBubble(t, func(c *clock) {
			if !api {
				c.up.NoReferrers()
			}
			img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			sbom := c.up.AddArtifact("team/api", "", "application/spdx+json", img, []byte("sbom"))
			signature := c.up.AddArtifact("team/api", "", "application/vnd.example.signature", sbom, []byte("signature of the sbom"))
			tag := strings.Replace(img.Digest.String(), ":", "-", 1) + ".sig"
			cosign := c.up.AddArtifact("team/api", tag, "application/vnd.example.cosign", upstreamtest.Image{}, []byte("old signature"))
			other := c.up.AddArtifact("team/api", "unrelated", "application/spdx+json", upstreamtest.Image{}, []byte("of nothing"))
			c.manifest("v1")
			c.pass(0)
			for _, want := range []upstreamtest.Image{img, sbom, signature, cosign} {
				x, err := c.cache.Explain(c.Context(), "app/api", want.Digest.String())
				if err != nil || !x.Stored {
					c.Errorf("API %v: %s is not stored: %v", api, want.ArtifactType, err)
				}
			}
			if x, _ := c.cache.Explain(c.Context(), "app/api", other.Digest.String()); x.Stored {
				c.Error("what refers to nothing of ours is stored")
			}
			c.wantTags(tag, "v1")
			if n := len(c.cache.Copies()); n != 0 {
				c.Errorf("%d copies are left: %+v", n, c.cache.Copies())
			}
		}, ruled(func(r *rule.Rule) { r.Referrers = true }))
	}
}

// Without the field nobody asks for referrers.
func TestReferrersAreNotCopiedUnasked(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.AddArtifact("team/api", "", "application/spdx+json", img, []byte("sbom"))
		c.manifest("v1")
		c.pass(0)
		if n := c.up.Count("", "referrers", ""); n != 0 || len(c.events) != 2 {
			c.Errorf("%d questions, %d events", n, len(c.events))
		}
	})
}

func (c *clock) prefetch(o cache.PrefetchOptions) error {
	return c.cache.Prefetch(c.Context(), "app/api", "v1", o)
}

func TestPrefetchPlatforms(t *testing.T) {
	inBubble(t, func(c *clock) {
		layers := upstreamtest.Layers(2, 1000)
		img := c.up.AddMultiPlatform("team/api", "v1", layers, "amd64", "arm64", "s390x")
		if err := c.prefetch(cache.PrefetchOptions{Platforms: []string{"pulled"}}); err == nil {
			c.Error("nothing was pulled")
		}
		if err := c.prefetch(cache.PrefetchOptions{Platforms: []string{"linux/mips"}}); err == nil || !strings.Contains(err.Error(), "linux/mips") {
			c.Errorf("a platform that is not there: %v", err)
		}
		if err := c.prefetch(cache.PrefetchOptions{Platforms: []string{"Linux"}}); err == nil {
			c.Error("no platform")
		}
		c.wantStored(img)
		var steps [][2]int64
		o := cache.PrefetchOptions{Platforms: []string{"linux/arm64"}, Progress: func(done, total int64) { steps = append(steps, [2]int64{done, total}) }}
		if err := c.prefetch(o); err != nil {
			c.Fatal(err)
		}
		size := img.Children[1].Config.Size + 2000
		if last := steps[len(steps)-1]; last != [2]int64{size, size} {
			c.Errorf("the last step is %v, want %d of %d", last, size, size)
		}
		c.wantStored(img, "arm64")
		c.wantTags("v1")
		if err := c.prefetch(cache.PrefetchOptions{Platforms: []string{"linux/arm64", "linux/s390"}}); err == nil || !strings.Contains(err.Error(), "linux/s390") {
			c.Errorf("a platform that is not there, of an index that is complete: %v", err)
		}

		next := c.up.AddMultiPlatform("team/api", "v1", [][]byte{layers[0], upstreamtest.Bytes(7, 900)}, "amd64", "arm64", "s390x")
		if err := c.prefetch(cache.PrefetchOptions{Platforms: []string{"pulled"}}); err != nil {
			c.Fatal(err)
		}
		c.wantStored(next, "arm64")
		if err := c.prefetch(cache.PrefetchOptions{}); err != nil {
			c.Fatal(err)
		}
		c.wantStored(next, "amd64", "arm64", "s390x")
	})
}

// Progress grows, and is told while it goes on.
func TestPrefetchProgress(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 2*mib))
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: img.Layers[1].Digest.String(), Stall: mib, Times: 1})
	var done []int64
	size := img.Config.Size + 4*mib
	err := s.cache.Prefetch(t.Context(), "app/api", "v1", cache.PrefetchOptions{Progress: func(d, total int64) {
		if done = append(done, d); len(done) >= 2 {
			s.up.Release() // it ends after it was told
		}
		if total != size {
			t.Errorf("%d in all, want %d", total, size)
		}
	}})
	if err != nil || len(done) < 3 || !slices.IsSorted(done) || done[len(done)-1] != size || done[0] >= size {
		t.Errorf("%v of %d, %v", done, size, err)
	}
	s.wantEvents("app/api:v1", "app/api@"+img.Digest.String())
}

// Copies tell bytes.
func TestCopiesTellBytes(t *testing.T) {
	s := newStory(t)
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Stall: 700 << 10})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, mib))
	s.wantManifest("app/api", "v1", img)
	deadline := time.Now().Add(time.Minute)
	for {
		all := s.cache.Copies()
		if len(all) == 1 && all[0].State == "running" && all[0].Total == img.Config.Size+mib && all[0].Done >= 700<<10 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", all)
		}
		time.Sleep(2 * time.Millisecond)
	}
	x, err := s.cache.Explain(t.Context(), "app/api", "v1")
	if err != nil || x.Copy == nil || x.Copy.State != cache.CopyRunning || !strings.Contains(x.Text, "a copy is running") {
		t.Errorf("%+v, %v", x, err)
	}
}

func TestRuleRefusesPlatforms(t *testing.T) {
	for _, bad := range [][]string{{"linux"}, {"all", "linux/amd64"}, {"pulled", "pulled"}, {"linux/amd64/v2/x"}, {""}, {"LINUX/amd64"}} {
		_, err := rule.NewSet(rule.Rule{Name: "team", Source: "quay.io/team/*", Target: "app/*", Platforms: bad})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", bad[0])) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
