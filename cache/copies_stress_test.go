package cache_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// Everything at once; at the end everything that is pulled is copied.
func TestStress(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { inBubble(t, func(c *clock) { stress(c, seed) }) })
	}
}

func stress(c *clock, seed uint64) {
	limits := cache.Limits{Jobs: 1 + int(seed%3), MaxJobs: 40, Attempts: 3}
	c.limited(limits)
	set := func(r *rule.Rule) {
		switch seed % 3 {
		case 1:
			r.Platforms = []string{"all"}
		case 2:
			r.Platforms, r.Referrers = []string{"linux/amd64"}, true
		}
	}
	ruled(set)(c)
	var imgs []upstreamtest.Image
	for i := range 4 {
		img := c.up.AddMultiPlatform("team/api", fmt.Sprint("v", i), upstreamtest.Layers(2, 500+i), "amd64", "arm64", "s390x")
		imgs = append(imgs, img)
		c.up.AddArtifact("team/api", "", "application/x", img.Children[0], []byte{byte(i)})
	}
	var wg sync.WaitGroup
	for w := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, w))
		wg.Go(func() {
			for range 150 {
				i := r.IntN(len(imgs))
				img, tag := imgs[i], fmt.Sprint("v", i)
				child := img.Children[r.IntN(3)]
				ctx := context.Background()
				switch r.IntN(12) {
				case 0:
					c.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 503, Times: 2})
				case 1:
					c.up.Fail(upstreamtest.Fault{Kind: "manifest", Status: 503, Times: 1})
				case 2:
					c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: time.Second, Times: 1})
				case 3:
					_ = c.cache.Delete(ctx, "app/api", tag)
				case 4:
					_ = c.cache.Delete(ctx, "app/api", child.Digest.String())
				case 5:
					_ = c.cache.Delete(ctx, "app/api", img.Digest.String())
				case 6:
					_, _ = c.cache.Retry(ctx, "", "")
				case 7, 8:
					_, _, _ = c.cache.Manifest(ctx, "app/api", tag)
				case 9:
					_, _, _ = c.cache.Manifest(ctx, "app/api", child.Digest.String())
				case 10:
					if _, b, err := c.cache.Blob(ctx, "app/api", child.Layers[1].Digest); err == nil {
						_, _ = io.Copy(io.Discard, b)
						b.Close()
					}
				case 11:
					ctx, cancel := context.WithTimeout(ctx, time.Minute)
					_ = c.cache.Prefetch(ctx, "app/api", tag, cache.PrefetchOptions{})
					cancel()
				}
				time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			}
		})
	}
	wg.Wait()
	c.up.Heal()
	c.pass(time.Hour)
	_, _ = c.cache.Retry(context.Background(), "", "")
	c.pass(time.Hour)
	for i, img := range imgs {
		tag := fmt.Sprint("v", i)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		if err := c.cache.Prefetch(ctx, "app/api", tag, cache.PrefetchOptions{}); err != nil {
			c.Errorf("prefetch %s: %v", tag, err)
		}
		cancel()
		if c.storedTag(tag) != img.Digest {
			c.Errorf("%s is not stored", tag)
		}
		for _, child := range img.Children {
			if _, err := c.store.Stat(context.Background(), "app/api", child.Digest); err != nil {
				c.Errorf("%s %s: %v", tag, child.Platform.Architecture, err)
			}
		}
	}
	c.pass(time.Hour)
	for _, s := range c.cache.Copies() {
		c.Errorf("left: %s %v tags %v err %v", s.State, s.Digest, s.Tags, s.Err)
	}
	r, _ := store.As[store.Records](c.store)
	for key := range r.RecordKeys(context.Background(), "jobs") {
		c.Errorf("a record is left: %s", key)
	}
}
