package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// evicting starts the cache with an eviction.
func (c *clock) evicting(v cache.Eviction) {
	c.stop()
	c.start(func(c *clock) { c.cache.Eviction = v })
}

// pull pulls an image with all that it names, as a client does.
func (c *clock) pull(repo, reference string) {
	c.Helper()
	_, body, err := c.cache.Manifest(c.Context(), repo, reference)
	if err != nil {
		c.Fatalf("%s:%s: %v", repo, reference, err)
	}
	for _, d := range digestsIn(body) {
		_, r, err := c.cache.Blob(c.Context(), repo, d)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if err != nil {
			c.Fatalf("%s of %s:%s: %v", d, repo, reference, err)
		}
	}
}

// digestsIn are the blobs that a manifest names; an index names none.
func digestsIn(manifest []byte) (all []digest.Digest) {
	var m ocispec.Manifest
	if json.Unmarshal(manifest, &m) != nil || m.Config.Digest == "" {
		return nil
	}
	for _, d := range append(m.Layers, m.Config) {
		all = append(all, d.Digest)
	}
	return all
}

// has reports whether a tag is stored.
func (c *clock) has(repo, tag string) bool {
	_, err := c.store.Tag(c.Context(), repo, tag)
	return err == nil
}

func (c *clock) content() int64 {
	c.Helper()
	size, err := c.store.(store.Sizer).Size(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	return size.Content
}

// What is pulled daily survives somebody who pulls everything once, and the store stays
// below its limit.
func TestEvictionIsScanResistant(t *testing.T) {
	inBubble(t, func(c *clock) {
		const most = 400_000
		c.evicting(cache.Eviction{MaxBytes: most})
		for i := range 10 {
			c.up.AddImage("team/daily", fmt.Sprint("v", i), upstreamtest.Layers(1, 10_000))
		}
		daily := func() {
			for i := range 10 {
				c.pull("app/daily", fmt.Sprint("v", i))
			}
		}
		for range 4 {
			daily()
			c.pass(24 * time.Hour)
		}
		for i := range 200 {
			tag := fmt.Sprint("s", i)
			c.up.AddImage("team/scan", tag, upstreamtest.Layers(1, 10_000+i))
			c.pull("app/scan", tag)
			c.pass(time.Second)
			if n := c.content(); n > most {
				c.Fatalf("after %d images of the scan the store has %d bytes", i, n)
			}
		}
		before := c.up.Count("GET", "", "")
		daily()
		if n := c.up.Count("GET", "", "") - before; n != 0 {
			c.Errorf("%d requests for what is pulled daily", n)
		}
		var there []string
		for i := range 200 {
			if tag := fmt.Sprint("s", i); c.has("app/scan", tag) {
				there = append(there, tag)
			}
		}
		if c.has("app/scan", "s0") || !c.has("app/scan", "s199") {
			c.Errorf("of the scan there are %v", there)
		}
		if s := c.cache.Stats(); s.Evicted < 150 || s.EvictedBytes < 1_500_000 {
			c.Errorf("%d images were evicted, %d bytes", s.Evicted, s.EvictedBytes)
		}
		c.pull("app/scan", "s0") // comes back
		c.pass(time.Hour)
		if !c.has("app/scan", "s0") {
			c.Error("what was evicted cannot come back")
		}
	})
}

func TestEvictionKeeps(t *testing.T) {
	inBubble(t, func(c *clock) {
		log := &logText{}
		c.stop()
		c.start(func(c *clock) {
			c.cache.Eviction = cache.Eviction{MaxBytes: 90_000, Keep: []string{"app/base*", "*:keep-*"}}
			c.cache.Logger = slog.New(slog.NewTextHandler(log, nil))
		})
		for _, name := range []string{"base", "base/deep", "other"} {
			for i, tag := range []string{"v1", "keep-me"} {
				c.up.AddImage("team/"+name, tag, upstreamtest.Layers(1, 20_000+i+len(name)))
				c.pull("app/"+name, tag)
				c.pass(time.Hour)
			}
		}
		c.pass(time.Hour)
		for _, want := range []struct {
			repo, tag string
			kept      bool
		}{{"app/base", "v1", true}, {"app/base/deep", "v1", true}, {"app/other", "v1", false}, {"app/other", "keep-me", true}} {
			if c.has(want.repo, want.tag) != want.kept {
				c.Errorf("%s:%s is there: %v", want.repo, want.tag, !want.kept)
			}
		}
		if !strings.Contains(strings.Join(log.all(), " "), "must stay") {
			c.Error("nobody says that the limit cannot be met")
		}
		// More is passed on and not stored.
		c.up.AddImage("team/more", "v1", upstreamtest.Layers(1, 40_000))
		c.pull("app/more", "v1")
		c.pass(time.Minute)
		if c.has("app/more", "v1") || c.content() > 130_000 {
			c.Errorf("it was stored: %d bytes", c.content())
		}
	})
}

// Images share blobs, and an index goes with the last of its images.
func TestEvictionOfWholeImages(t *testing.T) {
	inBubble(t, func(c *clock) {
		ruled(func(r *rule.Rule) { r.Platforms = []string{"all"} })(c)
		base := upstreamtest.Layers(2, 10_000)
		old := c.up.AddImage("team/api", "old", base)
		c.pull("app/api", "old")
		c.pass(time.Hour)
		img := c.up.AddMultiPlatform("team/api", "index", base, "amd64", "arm64")
		c.pull("app/api", "index")
		for _, child := range img.Children {
			c.pull("app/api", child.Digest.String())
		}
		c.pass(48 * time.Hour)
		c.pull("app/api", "index")
		for _, child := range img.Children {
			c.pull("app/api", child.Digest.String())
		}
		c.pass(time.Minute)
		c.stop()
		c.start(func(c *clock) { c.cache.Eviction.MaxAge = 24 * time.Hour })
		c.pass(90 * time.Minute)
		if n := c.cache.Stats().Evicted; n != 1 || c.has("app/api", "old") || !c.has("app/api", "index") {
			c.Fatalf("%d were evicted; old is there: %v", n, c.has("app/api", "old"))
		}
		if _, err := c.store.Stat(c.Context(), "app/api", old.Layers[0].Digest); err != nil {
			c.Errorf("a layer that an image still names: %v", err)
		}
		if _, err := c.store.Stat(c.Context(), "app/api", old.Layers[1].Digest); !errors.Is(err, store.ErrNotFound) {
			c.Errorf("a layer that no image names: %v", err)
		}
		c.pass(26 * time.Hour) // nobody pulls any more
		if tags, manifests, blobs := c.stored("app/api"); tags+manifests+blobs != 0 {
			c.Errorf("left are %d tags, %d manifests, %d blobs", tags, manifests, blobs)
		}
		if n := c.content(); n != 0 {
			c.Errorf("%d bytes are left", n)
		}
	})
}

// A copy that relies on a stored blob finds it when it ends.
func TestEvictionLeavesWhatIsCopied(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.evicting(cache.Eviction{MaxAge: time.Hour})
		old := c.up.AddImage("team/api", "old", upstreamtest.Layers(1, 10_000))
		c.pull("app/api", "old")
		c.pass(30 * time.Minute)
		c.up.AddImage("team/api", "new", append(upstreamtest.Layers(1, 10_000), upstreamtest.Layers(1, 20_000)...))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 6 * time.Hour})
		c.manifest("new")
		c.pass(4 * time.Hour)
		if c.has("app/api", "old") {
			c.Error("the old image is still there")
		}
		if _, err := c.store.Stat(c.Context(), "app/api", old.Layers[0].Digest); err != nil {
			c.Errorf("the layer on which the copy relies: %v", err)
		}
	})
}

func TestEvictionOfRules(t *testing.T) {
	inBubble(t, func(c *clock) {
		if err := c.rules.Create(rule.Rule{Name: "others", Source: source + "/others/*", Target: "others/*"}); err != nil {
			c.Fatal(err)
		}
		c.evicting(cache.Eviction{Rules: map[string]int64{"others": 50_000}})
		for i := range 10 {
			tag := fmt.Sprint("v", i)
			c.up.AddImage("team/api", tag, upstreamtest.Layers(1, 10_000+i))
			c.up.AddImage("others/api", tag, upstreamtest.Layers(1, 10_000+i))
			c.pull("app/api", tag)
			c.pull("others/api", tag)
			c.pass(2 * time.Minute)
		}
		sizes, err := c.cache.Sizes(c.Context())
		if err != nil || sizes.Rules["others"] > 50_000 || sizes.Rules["others"] < 30_000 || sizes.Rules["team"] < 100_000 {
			c.Errorf("%+v, %v", sizes, err)
		}
		if sizes.Repositories["others/api"] != sizes.Rules["others"] || sizes.Store.Content != sizes.Rules["team"] {
			c.Errorf("%+v: what they share counts once", sizes)
		}
	})
}

// scanned counts how often the manifests of a repository are listed.
type scanned struct {
	*store.Mem
	scans atomic.Int64
	after atomic.Pointer[func()] // called once, after the next scan of a repository
	open  error                  // of manifests
}

func (s *scanned) Manifests(ctx context.Context, repo string) iter.Seq2[store.Info, error] {
	s.scans.Add(1)
	return func(yield func(store.Info, error) bool) {
		s.Mem.Manifests(ctx, repo)(yield)
		if f := s.after.Swap(nil); f != nil {
			(*f)()
		}
	}
}

func (s *scanned) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	info, body, err := s.Mem.Open(ctx, repo, d)
	if err == nil && s.open != nil && info.IsManifest() {
		return store.Info{}, nil, s.open
	}
	return info, body, err
}

// An image that becomes complete while others are evicted keeps what it shares with them.
func TestEvictionDuringACopy(t *testing.T) {
	inBubble(t, func(c *clock) {
		s := &scanned{Mem: &store.Mem{}}
		c.stop()
		c.store = s
		c.start()
		shared := upstreamtest.Layers(1, 10_000)
		c.up.AddImage("team/api", "old", shared)
		c.pull("app/api", "old")
		c.pass(48 * time.Hour)
		img := c.up.AddImage("team/api", "new", append(shared, upstreamtest.Layers(1, 20_000)...))
		c.stop()
		c.start(func(c *clock) { c.cache.Eviction = cache.Eviction{MaxAge: 24 * time.Hour, Every: time.Hour} })
		c.pass(90 * time.Minute)
		c.pull("app/api", "old")
		c.pass(24 * time.Hour)
		meanwhile := func() {
			if _, _, err := c.cache.Manifest(c.Context(), "app/api", "new"); err != nil {
				c.Error(err)
			}
			time.Sleep(time.Minute) // it is copied
		}
		s.after.Store(&meanwhile)
		c.pass(4 * time.Hour)
		if c.has("app/api", "old") || !c.has("app/api", "new") {
			c.Errorf("old is there: %v, new: %v", c.has("app/api", "old"), c.has("app/api", "new"))
		}
		for _, l := range img.Layers {
			if _, err := c.store.Stat(c.Context(), "app/api", l.Digest); err != nil {
				c.Errorf("a layer of what was copied meanwhile: %v", err)
			}
		}
	})
}

// A store that cannot be read for a moment costs nothing.
func TestEvictionOfWhatCannotBeRead(t *testing.T) {
	inBubble(t, func(c *clock) {
		s := &scanned{Mem: &store.Mem{}}
		c.stop()
		c.store = s
		c.start()
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Hour)
		s.open = errors.New("input/output error")
		if _, err := c.cache.Evict(c.Context()); !errors.Is(err, s.open) {
			c.Errorf("%v", err)
		}
	})
}

// Where nothing may go, not every image that is stored costs a look at all of them.
func TestEvictionInVainIsRare(t *testing.T) {
	inBubble(t, func(c *clock) {
		s := &scanned{Mem: &store.Mem{}}
		c.stop()
		c.store = s
		c.start(func(c *clock) {
			c.cache.Eviction = cache.Eviction{MaxBytes: 100_000, MinFree: 1 << 30, Keep: []string{"*"}}
		})
		for i := range 60 {
			tag := fmt.Sprint("v", i)
			c.up.AddImage("team/api", tag, upstreamtest.Layers(1, 100+i))
			c.manifest(tag)
			c.pass(time.Second)
		}
		if n := s.scans.Load(); n < 1 || n > 4 {
			c.Errorf("the images were looked at %d times in a minute", n)
		}
	})
}

func TestEvictionCannot(t *testing.T) {
	inBubble(t, func(c *clock) {
		for _, pattern := range []string{"", ":v1", "a:", "a@sha256:1", "a:b:c"} {
			v := cache.Eviction{MaxAge: time.Hour, Keep: []string{pattern}}
			if err := v.Check(); err == nil {
				c.Errorf("%q is a pattern", pattern)
			}
		}
		c.evicting(cache.Eviction{MaxAge: time.Hour, Keep: []string{"a:"}})
		if _, err := c.cache.Evict(c.Context()); err == nil {
			c.Error("a pattern that is none evicts")
		}
		c.stop()
		c.store = plainStore{c.store}
		c.evicting(cache.Eviction{MaxAge: time.Hour})
		if _, err := c.cache.Evict(c.Context()); !errors.Is(err, errors.ErrUnsupported) {
			c.Errorf("a store that cannot list: %v", err)
		}
		if _, err := c.cache.Sizes(c.Context()); !errors.Is(err, errors.ErrUnsupported) {
			c.Errorf("a store that does not know its size: %v", err)
		}
		ctx, cancel := context.WithCancel(c.Context())
		cancel()
		c.stop()
		c.store = &store.Mem{}
		c.evicting(cache.Eviction{MaxAge: time.Hour})
		if _, err := c.cache.Evict(ctx); !errors.Is(err, context.Canceled) {
			c.Errorf("after the end of its context: %v", err)
		}
	})
}
