package cache_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func (c *clock) limited(l cache.Limits) {
	c.stop()
	c.start(func(c *clock) { c.cache.Limits = l })
}

func (c *clock) take(d digest.Digest) {
	c.Helper()
	_, body, err := c.cache.Blob(c.Context(), "app/api", d)
	if err == nil {
		_ = body.Close()
	}
}

// Platforms that were only looked at make room and go in the end.
func TestWatchedForEver(t *testing.T) {
	inBubble(t, func(c *clock) {
		limits := cache.Limits{MaxJobs: 20} // stands for 10,000
		c.limited(limits)
		for i := range 6 { // an inspector walks an index each day and pulls nothing
			tag := fmt.Sprint("v", i)
			img := c.up.AddMultiPlatform("team/api", tag, upstreamtest.Layers(2, 2000+i), "a", "b", "c", "d")
			c.manifest(tag)
			for _, child := range img.Children {
				c.manifest(child.Digest.String())
			}
			c.pass(25 * time.Hour)
		}
		c.pass(30 * 24 * time.Hour)
		c.stop()
		c.start(func(c *clock) { c.cache.Limits = limits })
		c.pass(30 * 24 * time.Hour)
		states := map[string]int{}
		for _, s := range c.cache.Copies() {
			states[string(s.State)]++
		}
		img := c.up.AddMultiPlatform("team/api", "new", upstreamtest.Layers(2, 3000), "amd64", "arm64")
		for range 3 { // whole pulls
			c.manifest("new")
			c.manifest(img.Children[0].Digest.String())
			c.take(img.Children[0].Layers[0].Digest)
			c.take(img.Children[0].Layers[1].Digest)
			c.pass(25 * time.Hour)
		}
		if c.storedTag("new") == "" {
			c.Errorf("two months and a restart later nothing is copied any more: %v, dropped %d", states, c.cache.Stats().JobsDropped)
		}
	})
}

func (c *clock) badIndex(tag string, good upstreamtest.Image) digest.Digest {
	bad := c.up.AddManifest("team/api", "", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"layers":[{"digest":"nonsense","size":1}]}`))
	bad.Platform = &ocispec.Platform{OS: "linux", Architecture: "s390x"}
	return c.up.AddIndex("team/api", tag, good, upstreamtest.Image{Descriptor: bad}).Digest
}

// An index with a child that can never be copied is complete without it, and does not run in circles.
func TestBadChildLoops(t *testing.T) {
	inBubble(t, func(c *clock) {
		ruled(func(r *rule.Rule) { r.Platforms = []string{"all"} })(c)
		c.limited(cache.Limits{Jobs: 1})
		good := c.up.AddImage("team/api", "", upstreamtest.Layers(1, 1000))
		var bads atomic.Int64
		c.badIndex("v1", good)
		bad := digest.FromString(`{"schemaVersion":2,"layers":[{"digest":"nonsense","size":1}]}`)
		c.up.Fail(upstreamtest.Fault{Kind: "manifest", Reference: bad.String(), Do: func(w http.ResponseWriter, r *http.Request) {
			if bads.Add(1) > 2000 { // let the bubble end
				w.WriteHeader(404)
				return
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			_, _ = w.Write([]byte(`{"schemaVersion":2,"layers":[{"digest":"nonsense","size":1}]}`))
		}})
		c.manifest("v1")
		c.pass(0)
		if bads.Load() > 20 {
			c.Errorf("the bad child was fetched %d times in no time", bads.Load())
		}
	})
}

// Prefetch of what is parked tries it, and returns.
func TestPrefetchOfParked(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.limited(cache.Limits{Attempts: 1})
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: img.Layers[0].Digest.String(), Status: 404})
		c.manifest("v1")
		c.pass(time.Minute)
		c.only("parked")
		ctx, cancel := context.WithTimeout(c.Context(), 24*time.Hour)
		defer cancel()
		begun := time.Now()
		err := c.cache.Prefetch(ctx, "app/api", "v1", cache.PrefetchOptions{})
		if errors.Is(err, context.DeadlineExceeded) {
			c.Errorf("Prefetch hangs: %v after %v", err, time.Since(begun))
		}
	})
}

// An index is not given up while its platform is on its way.
func TestIndexExpiresWhileItsChildComes(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
		amd := img.Children[0]
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 503})
		c.manifest("v1")
		c.manifest(amd.Digest.String())
		c.take(amd.Layers[1].Digest)
		c.pass(25 * time.Hour)
		c.up.Heal()
		c.pass(time.Hour)
		c.wantStored(img, "amd64")
		if c.storedTag("v1") == "" {
			c.Errorf("the platform that was pulled is here, its index is lost; events %d", len(c.events))
		}
	})
}

// Nor after an outage of a day.
func TestIndexExpiresAfterAnOutage(t *testing.T) {
	inBubble(t, func(c *clock) {
		ruled(func(r *rule.Rule) { r.Platforms = []string{"all"} })(c)
		img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
		c.manifest("v1")
		c.up.Fail(upstreamtest.Fault{Status: 503})
		c.pass(25 * time.Hour)
		c.up.Heal()
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: time.Second})
		c.pass(time.Hour)
		c.wantStored(img, "amd64", "arm64")
		if c.storedTag("v1") == "" {
			c.Errorf("the index is lost; events %d", len(c.events))
		}
	})
}

// A platform that found the queue full is copied later.
func TestFullQueueLosesNoPlatforms(t *testing.T) {
	inBubble(t, func(c *clock) {
		ruled(func(r *rule.Rule) { r.Platforms = []string{"all"} })(c)
		c.limited(cache.Limits{MaxJobs: 2})
		img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
		c.manifest("v1")
		c.pass(time.Minute)
		c.manifest("v1")
		c.pass(time.Hour)
		c.wantStored(img, "amd64", "arm64")
	})
}

// Referrer pages without an end do not hold a job for ever.
func TestEndlessReferrers(t *testing.T) {
	inBubble(t, func(c *clock) {
		ruled(func(r *rule.Rule) { r.Referrers = true })(c)
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		n := 0
		c.up.Fail(upstreamtest.Fault{Kind: "referrers", Do: func(w http.ResponseWriter, r *http.Request) {
			if n++; n < 3000 {
				w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, n))
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_, _ = w.Write([]byte(`{"schemaVersion":2,"manifests":[]}`))
		}})
		c.manifest("v1")
		c.pass(time.Hour)
		if n > 1100 {
			c.Errorf("%d pages were asked for", n)
		}
		_ = img
	})
}

// Referrers that may not be listed do not keep the image away.
func TestDeniedReferrers(t *testing.T) {
	inBubble(t, func(c *clock) {
		ruled(func(r *rule.Rule) { r.Referrers = true })(c)
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Fail(upstreamtest.Fault{Kind: "referrers", Status: 403})
		c.manifest("v1")
		c.pass(48 * time.Hour)
		if c.storedTag("v1") == "" {
			c.Errorf("the image is not copied: %+v", c.cache.Copies())
		}
	})
}
