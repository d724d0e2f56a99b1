package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// farStore is a store that other processes share. It may fail, or never answer.
type farStore struct {
	*store.Mem
	fails, hangs atomic.Bool
	asked        atomic.Int64
}

func (f *farStore) Shared() bool { return true }

func (f *farStore) answer(ctx context.Context) error {
	f.asked.Add(1)
	if f.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.fails.Load() {
		return errors.New("no connection")
	}
	return nil
}

func (f *farStore) Stat(ctx context.Context, repo string, d digest.Digest) (store.Info, error) {
	if err := f.answer(ctx); err != nil {
		return store.Info{}, err
	}
	return f.Mem.Stat(ctx, repo, d)
}

func (f *farStore) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	if err := f.answer(ctx); err != nil {
		return store.Info{}, nil, err
	}
	return f.Mem.Open(ctx, repo, d)
}

func (f *farStore) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	if err := f.answer(ctx); err != nil {
		return nil, err
	}
	return f.Mem.Create(ctx, repo, want)
}

func (f *farStore) Adopt(ctx context.Context, repo string, want store.Info, allowed func(context.Context, io.ReadSeeker) error) error {
	if err := f.answer(ctx); err != nil {
		return err
	}
	return f.Mem.Adopt(ctx, repo, want, allowed)
}

func (f *farStore) Tag(ctx context.Context, repo, tag string) (store.Tag, error) {
	if err := f.answer(ctx); err != nil {
		return store.Tag{}, err
	}
	return f.Mem.Tag(ctx, repo, tag)
}

func (f *farStore) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	if err := f.answer(ctx); err != nil {
		return err
	}
	return f.Mem.SetTag(ctx, repo, tag, t)
}

// tiered gives the cache a near store of its own before a far one, as a new process has it.
func (c *clock) tiered(far store.Store, v cache.Eviction) (near *store.Mem) {
	c.Helper()
	c.stop()
	near = &store.Mem{}
	tier := &store.Tier{Near: near, Far: far}
	c.Cleanup(func() { _ = tier.Close() })
	c.store = tier
	c.start(func(c *clock) { c.cache.Eviction = v })
	return near
}

// wantImageIn fails unless a store has an image with all that it names, and its tag.
func (c *clock) wantImageIn(s store.Store, img upstreamtest.Image, tag string) {
	c.Helper()
	for _, d := range append([]ocispec.Descriptor{img.Config, img.Descriptor}, img.Layers...) {
		if _, err := s.Stat(c.Context(), "app/api", d.Digest); err != nil {
			c.Errorf("%s: %v", d.Digest, err)
		}
	}
	if got, err := s.Tag(c.Context(), "app/api", tag); err != nil || got.Digest != img.Digest {
		c.Errorf("the tag: %v, %v", got.Digest, err)
	}
}

// While the far store is away, images are served from near and from upstream, with one
// fetch of each blob. When it is back, copies end without a further byte and tell once.
func TestFarStoreIsAway(t *testing.T) {
	for name, away := range map[string]func(*farStore) *atomic.Bool{
		"fails": func(f *farStore) *atomic.Bool { return &f.fails },
		"hangs": func(f *farStore) *atomic.Bool { return &f.hangs },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(c *clock) {
				far := &farStore{Mem: &store.Mem{}}
				c.tiered(far, cache.Eviction{})
				old := c.up.AddImage("team/api", "old", upstreamtest.Layers(2, 100_000))
				c.pull("app/api", "old")
				c.pass(time.Minute)
				c.wantImageIn(far.Mem, old, "old")
				told := len(c.events)

				away(far).Store(true)
				img := c.up.AddImage("team/api", "new", upstreamtest.Layers(3, 200_000))
				before := c.up.Count("GET", "blob", "")
				for range 3 {
					c.pull("app/api", "old")
					c.pull("app/api", "new")
					c.pass(20 * time.Minute)
				}
				if n := c.up.Count("GET", "blob", "") - before; n != 4 {
					c.Errorf("%d fetches of 4 new blobs", n)
				}
				if n := len(c.events); n != told {
					c.Errorf("%d events of a copy that has not ended", n-told)
				}
				if len(c.parked) > 0 {
					c.Errorf("a copy was parked: %+v", c.parked)
				}

				away(far).Store(false)
				before = c.up.Count("GET", "", "")
				c.pass(3 * time.Minute)
				c.wantImageIn(far.Mem, img, "new")
				if n := len(c.events) - told; n != 2 { // the image, and its tag
					c.Errorf("%d events, want 2", n)
				}
				if n := c.up.Count("GET", "", "") - before; n != 0 {
					c.Errorf("%d requests to the upstream after it came back", n)
				}
				if n := len(c.cache.Copies()); n != 0 {
					c.Errorf("%d copies are left", n)
				}
			})
		})
	}
}

// A replica that has nothing near serves what the far store has, and fetches nothing. What
// it has served is near then.
func TestReplicaBeginsWithNothingNear(t *testing.T) {
	inBubble(t, func(c *clock) {
		far := &farStore{Mem: &store.Mem{}}
		c.tiered(far, cache.Eviction{})
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(3, 100_000))
		c.pull("app/api", "v1")
		c.pass(time.Minute)
		before := c.up.Count("GET", "", "")
		near := c.tiered(far, cache.Eviction{})
		c.pull("app/api", "v1")
		c.pass(time.Minute)
		if n := c.up.Count("GET", "", "") - before; n != 0 {
			c.Errorf("%d fetches of what the far store has", n)
		}
		c.wantImageIn(near, img, "v1")
		asked := far.asked.Load()
		c.pull("app/api", "v1")
		if n := far.asked.Load() - asked; n > 1 { // the tag may be looked up
			c.Errorf("a warm pull asked the far store %d times", n)
		}
	})
}

// Eviction frees the near store. What has gone comes back from far.
func TestEvictionFreesTheNearStore(t *testing.T) {
	inBubble(t, func(c *clock) {
		const most = 400_000
		far := &farStore{Mem: &store.Mem{}}
		near := c.tiered(far, cache.Eviction{MaxBytes: most})
		images := map[string]upstreamtest.Image{}
		for i := range 20 {
			tag := fmt.Sprint("v", i)
			images[tag] = c.up.AddImage("team/api", tag, upstreamtest.Layers(1, 50_000+i))
			c.pull("app/api", tag)
			c.pass(time.Minute)
		}
		size, err := near.Size(c.Context())
		if err != nil || size.Content > most {
			c.Errorf("near there are %d bytes, %v", size.Content, err)
		}
		if n := c.cache.Stats().Evicted; n < 10 {
			c.Errorf("%d images were evicted", n)
		}
		before := c.up.Count("GET", "", "")
		for tag, img := range images {
			c.wantImageIn(far.Mem, img, tag)
			c.pull("app/api", tag)
			c.pass(3 * time.Second)
			if size, err = near.Size(c.Context()); err != nil || size.Content > most {
				c.Errorf("after %s came back, near there are %d bytes, %v", tag, size.Content, err)
			}
		}
		if n := c.up.Count("GET", "", "") - before; n != 0 {
			c.Errorf("%d fetches of what the far store has", n)
		}
		if size, err = near.Size(c.Context()); err != nil || size.Content > most {
			c.Errorf("after all came back, near there are %d bytes, %v", size.Content, err)
		}
	})
}

// What the far store has lost stays near, also if nobody can tell.
func TestEvictionLeavesWhatOnlyTheNearStoreHas(t *testing.T) {
	inBubble(t, func(c *clock) {
		far := &farStore{Mem: &store.Mem{}}
		near := c.tiered(far, cache.Eviction{})
		lost := c.up.AddImage("team/api", "lost", upstreamtest.Layers(1, 50_000))
		safe := c.up.AddImage("team/api", "safe", upstreamtest.Layers(1, 60_000))
		c.pull("app/api", "lost")
		c.pull("app/api", "safe")
		c.pass(time.Minute)
		if err := far.Delete(c.Context(), "app/api", lost.Digest); err != nil {
			c.Fatal(err)
		}
		c.stop()
		c.store = &store.Tier{Near: near, Far: far} // which remembers nothing
		c.start(func(c *clock) { c.cache.Eviction = cache.Eviction{MaxAge: time.Hour, Every: time.Hour} })
		far.fails.Store(true)
		c.pass(4 * time.Hour)
		c.wantImageIn(near, lost, "lost")
		c.wantImageIn(near, safe, "safe")
		far.fails.Store(false)
		c.pass(4 * time.Hour)
		c.wantImageIn(near, lost, "lost")
		if _, err := near.Stat(c.Context(), "app/api", safe.Digest); !errors.Is(err, store.ErrNotFound) {
			c.Errorf("what the far store has is still near: %v", err)
		}
		c.wantImageIn(far.Mem, safe, "safe")
	})
}

// What another process has deleted is not served for long, even if nobody tells of it.
func TestDeletionElsewhereIsSeen(t *testing.T) {
	for _, by := range []string{"tag", "digest"} {
		t.Run(by, func(t *testing.T) {
			inBubble(t, func(c *clock) {
				far := &farStore{Mem: &store.Mem{}}
				c.tiered(far, cache.Eviction{})
				img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 50_000))
				c.pull("app/api", "v1")
				c.pass(time.Hour)
				reference := "v1"
				if by == "digest" {
					reference = img.Digest.String()
				}
				if err := c.rules.Delete("team"); err != nil { // what is here is all that there is
					c.Fatal(err)
				}
				c.pull("app/api", reference)
				other := &store.Tier{Near: &store.Mem{}, Far: far}
				if err := errors.Join(other.DeleteTag(c.Context(), "app/api", "v1"), other.Delete(c.Context(), "app/api", img.Digest)); err != nil {
					c.Fatal(err)
				}
				for minutes := 0; ; minutes++ {
					if _, _, err := c.cache.Manifest(c.Context(), "app/api", reference); err != nil {
						break
					}
					if minutes > 15 {
						c.Fatalf("it is still served after %d minutes", minutes)
					}
					c.pass(time.Minute)
				}
			})
		})
	}
}

// A tag check stays good although what is remembered of a shared store is forgotten.
func TestFreshnessOutlivesTheMemoryOfASharedStore(t *testing.T) {
	inBubble(t, func(c *clock) {
		far := &farStore{Mem: &store.Mem{}}
		c.tiered(far, cache.Eviction{})
		c.stop()
		c.start(func(c *clock) { c.cache.Freshness = time.Hour })
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 50_000))
		c.pull("app/api", "v1")
		c.pass(2 * time.Hour)
		c.pull("app/api", "v1") // which checks the tag
		before := c.up.Count("", "", "")
		for range 50 {
			c.pass(time.Minute)
			c.pull("app/api", "v1")
		}
		if n := c.up.Count("", "", "") - before; n != 0 {
			c.Errorf("%d requests within the freshness of a check", n)
		}
	})
}
