package cache_test

import (
	"context"
	"io"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// lookups is a store that counts what it is asked. Its other abilities are those of the
// store behind it.
type lookups struct {
	store.Store

	mu    sync.Mutex
	calls map[string]int    // by method and what it was asked for
	names map[string]string // of digests
}

func (l *lookups) Unwrap() store.Store { return l.Store }

func (l *lookups) count(call, of string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.names[of]; n != "" {
		of = n
	}
	l.calls[call+" "+of]++
}

func (l *lookups) Stat(ctx context.Context, repo string, d digest.Digest) (store.Info, error) {
	l.count("Stat", d.String())
	return l.Store.Stat(ctx, repo, d)
}

func (l *lookups) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	l.count("Open", d.String())
	return l.Store.Open(ctx, repo, d)
}

func (l *lookups) Adopt(ctx context.Context, repo string, want store.Info, allowed func(context.Context, io.ReadSeeker) error) error {
	l.count("Adopt", want.Digest.String())
	return l.Store.Adopt(ctx, repo, want, allowed)
}

func (l *lookups) Tag(ctx context.Context, repo, tag string) (store.Tag, error) {
	l.count("Tag", tag)
	return l.Store.Tag(ctx, repo, tag)
}

// call names an image.
func (l *lookups) call(name string, img upstreamtest.Image) {
	l.names[img.Digest.String()] = name
	l.names[img.Config.Digest.String()] = name + "'s config"
	for _, d := range img.Layers {
		if l.names[d.Digest.String()] == "" { // images share layers
			l.names[d.Digest.String()] = name + "'s layer"
		}
	}
}

// forget begins to count anew.
func (l *lookups) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.calls)
}

// storeCalls is a story on a Dir that counts what the store is asked.
type storeCalls struct {
	*story
	*lookups
}

func newStoreCalls(t *testing.T) storeCalls {
	l := &lookups{calls: map[string]int{}, names: map[string]string{}}
	return storeCalls{newStory(t, onDir, func(s *story) {
		l.Store = s.cache.Store
		s.cache.Store = l
	}), l}
}

// want compares what the store was asked since the last call of want, once nothing is
// under way.
func (s storeCalls) want(what string, want map[string]int) {
	s.Helper()
	if err := s.cache.Idle(s.Context()); err != nil {
		s.Fatal(err)
	}
	s.lookups.mu.Lock()
	defer s.lookups.mu.Unlock()
	if !maps.Equal(s.calls, want) {
		s.Errorf("%s: the store was asked %v, want %v", what, s.calls, want)
	}
	clear(s.calls)
}

// TestStoreIsAskedOnce: what a pull and its copy ask the store.
func TestStoreIsAskedOnce(t *testing.T) {
	s := newStoreCalls(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.call("image", img)
	s.want("the start", map[string]int{})

	s.wantManifest("app/api", "v1", img)
	s.want("a cold pull and its copy", map[string]int{
		"Tag v1": 2, "Open image": 2, // one of each for the client
		"Stat image's config": 2, "Adopt image's config": 1, "Stat image's layer": 2, "Adopt image's layer": 1,
	})
	for _, round := range []string{"the first pull after the copy", "a warm pull"} {
		s.wantManifest("app/api", "v1", img)
		s.wantManifest("app/api", img.Digest.String(), img)
		s.do("HEAD", "/v2/app/api/manifests/v1")
		s.do("HEAD", "/v2/app/api/manifests/"+img.Digest.String())
		s.pullBlobs("app/api", img)
		s.want(round, map[string]int{})
	}

	if err := s.cache.Delete(t.Context(), "app/other", "v1"); err != nil { // what is in memory may be gone
		t.Fatal(err)
	}
	s.forget()
	for range 2 {
		s.wantManifest("app/api", "v1", img)
		s.pullBlobs("app/api", img)
	}
	s.want("pulls after a deletion", map[string]int{"Tag v1": 1, "Open image's config": 1, "Open image's layer": 1})
}

// TestLookAtAPlatformAsksTheStoreOnce: clients that read the manifests of all platforms
// cost nothing when they do it again, and what another one watches for costs their blobs
// nothing.
func TestLookAtAPlatformAsksTheStoreOnce(t *testing.T) {
	s := newStoreCalls(t)
	index := s.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(3, 1000), "amd64", "arm64")
	s.call("index", index)
	s.call("amd64", index.Children[0])
	child := index.Children[1]
	s.call("arm64", child)
	s.wantManifest("app/api", "v1", index)
	s.pull("app/api", index.Children[0].Digest.String(), index.Children[0])
	s.wantManifest("app/api", child.Digest.String(), child)
	s.settle()
	s.forget()
	for range 3 {
		s.wantManifest("app/api", child.Digest.String(), child)
	}
	s.want("a manifest that was looked at", map[string]int{})
	s.pullBlobs("app/api", index.Children[0])
	s.want("blobs of another platform", map[string]int{})

	if err := s.cache.Delete(t.Context(), "app/api", child.Digest.String()); err != nil {
		t.Fatal(err)
	}
	s.up.Reset()
	s.wantManifest("app/api", child.Digest.String(), child)
	if n := s.up.Count("GET", "manifest", child.Digest.String()); n != 1 {
		t.Errorf("a deleted manifest was fetched %d times, want once", n)
	}
	s.pullBlobs("app/api", child)
	s.settle()
	s.up.Fail(upstreamtest.Fault{Status: 503})
	s.pull("app/api", child.Digest.String(), child)
}

// TestStoredWhileItIsFetched: a manifest that became stored while a client waited for it
// is not copied once more.
func TestStoredWhileItIsFetched(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Fail(upstreamtest.Fault{Kind: "manifest", Reference: img.Digest.String(), Latency: 10 * time.Second})
		go func() {
			if _, _, err := c.cache.Manifest(c.Context(), "app/api", img.Digest.String()); err != nil {
				c.Error(err)
			}
		}()
		c.pass(time.Second)
		c.manifest("v1")
		c.pass(time.Second)
		if len(c.events) != 2 {
			t.Fatalf("%d events of the copy, want two", len(c.events))
		}
		if c.pass(time.Minute); len(c.events) != 2 {
			t.Errorf("%d events after the second client was answered, want two", len(c.events))
		}
	})
}
