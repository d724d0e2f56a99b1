package cache_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestSharedChecksAreCounted: of clients that pull a tag at once, those that use the tag
// check of another one are counted.
func TestSharedChecksAreCounted(t *testing.T) {
	inDistance(t, func(f *far, _ upstreamtest.Image) {
		before := f.cache.Stats()
		f.digest("GET")
		if n := f.cache.Stats().ChecksShared - before.ChecksShared; n != 0 {
			f.Errorf("a client that is alone shared %d tag checks", n)
		}
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() { f.digest("GET") })
		}
		all.Wait()
		s := f.cache.Stats()
		asked := s.Checks - before.Checks - 1
		if n := s.ChecksShared - before.ChecksShared; n < 32 || n+asked != 64 {
			f.Errorf("%d of 64 pulls shared a tag check, and %d were sent", n, asked)
		}
	})
}

// TestFollowersAreCounted: of three clients that pull a blob at once, two join the download of
// the first, and all three use it.
func TestFollowersAreCounted(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1<<20))
		c.up.Pace(1 << 18) // four seconds
		path := "http://cache/v2/app/api/blobs/" + img.Layers[0].Digest.String()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, path, nil)
				if err != nil {
					c.Error(err)
					return
				}
				if resp, err := (inMemory{c.cache}).RoundTrip(req); err != nil || resp.StatusCode != http.StatusOK {
					c.Error(resp, err)
				}
			})
		}
		time.Sleep(time.Second)
		synctest.Wait()
		s, slots := c.cache.Stats(), c.cache.Slots()
		if s.Downloads != 1 || s.Readers != 3 || s.Followers != 2 {
			c.Errorf("during the download: %d downloads, %d readers, %d followers, want 1, 3, 2", s.Downloads, s.Readers, s.Followers)
		}
		if d := slots.Downloads; d.Held != 1 || d.Size != 128 || d.Waiting != 0 || len(d.Rules) != 1 {
			c.Errorf("during the download: slots %+v", d)
		}
		all.Wait()
		c.pass(time.Second)
		s, slots = c.cache.Stats(), c.cache.Slots()
		if s.Downloads != 0 || s.Readers != 0 || s.Followers != 2 || slots.Downloads.Held != 0 || len(slots.Downloads.Rules) != 0 {
			c.Errorf("after the download: %+v, slots %+v", s, slots.Downloads)
		}
	})
}

// TestCountsOfCopies: the counts agree with the list of copies, and a copy that runs has a slot.
func TestCountsOfCopies(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1<<20))
		if n := c.cache.CopiesPage(cache.CopyFilter{Limit: -1}).Counts; len(n) != 0 {
			c.Errorf("before a pull: %v", n)
		}
		begun := time.Now()
		c.up.Pace(1 << 18)
		c.manifest("v1")
		time.Sleep(time.Second)
		synctest.Wait()
		n := c.cache.CopiesPage(cache.CopyFilter{Limit: -1}).Counts
		one := n[cache.CopyRunning]
		if len(n) != 1 || one.Jobs != 1 || one.Oldest.Before(begun) || one.Oldest.After(time.Now()) {
			c.Errorf("while %s is copied: %v", img.Digest, n)
		}
		if j := c.cache.Slots().Jobs; j.Held != 1 || j.Size != 8 || len(j.Rules) != 1 {
			c.Errorf("while it is copied: %+v", j)
		}
		c.pass(time.Minute)
		if n, j := c.cache.CopiesPage(cache.CopyFilter{Limit: -1}).Counts, c.cache.Slots().Jobs; len(n) != 0 || j.Held != 0 {
			c.Errorf("afterwards: %v, %+v", n, j)
		}
	})
}

// TestSlotsThatAreWaitedFor: a request that finds all slots of its kind taken shows.
func TestSlotsThatAreWaitedFor(t *testing.T) {
	inDistance(t, func(f *far, _ upstreamtest.Image) {
		f.slow.Store(int64(time.Second))
		ctx, leave := context.WithCancel(f.Context())
		var all sync.WaitGroup
		for _, tag := range []string{"v1", "v2"} {
			all.Go(func() { _, _ = f.cache.Resolve(ctx, "app/api", tag) })
		}
		synctest.Wait()
		if r := f.cache.Slots().Requests; r.Held != 1 || r.Waiting != 1 || r.Size != 1 {
			f.Errorf("%+v", r)
		}
		leave()
		all.Wait()
		f.pass(time.Minute)
		if r := f.cache.Slots().Requests; r.Held != 0 || r.Waiting != 0 {
			f.Errorf("afterwards: %+v", r)
		}
	}, func(c *clock) { c.cache.Limits.Requests = 1 })
}
