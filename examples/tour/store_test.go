package tour

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// countingStore counts what is written. It embeds the interface store.Store and not a
// store such as *store.Dir, which would bring its Spool with it.
type countingStore struct {
	store.Store
	writes atomic.Int64
}

// Create is how all content gets into a store that has no Spool: blobs and manifests.
func (s *countingStore) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	s.writes.Add(1)
	return s.Store.Create(ctx, repo, want)
}

// Unwrap lets store.As find what the store behind can do besides: records, deletion,
// lists. It does not let it find Spool, which would bypass Create.
func (s *countingStore) Unwrap() store.Store { return s.Store }

// spoolingStore is a countingStore that passes Spool on. Blobs come by Spool then, and
// Create gets manifests alone.
type spoolingStore struct {
	countingStore
	inner  store.Spooler
	spools atomic.Int64
}

// newSpoolingStore is for stores that have a Spool: a wrapper with one that does not work
// would be worse than one without.
func newSpoolingStore(inner interface {
	store.Store
	store.Spooler
}) *spoolingStore {
	return &spoolingStore{countingStore: countingStore{Store: inner}, inner: inner}
}

// Spool returns what the inner store returns, which may be a store.Checkpointer: a
// wrapper around it would have to be one too.
func (s *spoolingStore) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
	s.spools.Add(1)
	return s.inner.Spool(ctx, repo, want)
}

// A wrapped store sees every write, and what only adds to a store goes on working.
func TestStoreThatCountsWrites(t *testing.T) {
	c, up := cachetest.New(t)
	counting := &countingStore{Store: c.Store}
	c.Store = counting
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(3, 1000))

	pull(t, c, "hub/team/api", "v1")
	if n := counting.writes.Load(); n != 5 {
		t.Errorf("%d writes, want those of 3 layers, a config and a manifest", n)
	}
	if err := c.Delete(t.Context(), "hub/team/api", img.Digest.String()); err != nil {
		t.Errorf("the Deleter behind the wrapper is not found: %v", err)
	}
	if !slices.ContainsFunc(store.Lacks(counting), isAbout("Spooler")) {
		t.Errorf("what is lost: %q", store.Lacks(counting))
	}
}

// With a Spool of its own the wrapper loses nothing.
func TestStoreThatCountsWritesAndSpools(t *testing.T) {
	c, up := cachetest.New(t)
	counting := newSpoolingStore(c.Store.(*store.Mem))
	c.Store = counting
	up.AddImage("team/api", "v1", upstreamtest.Layers(3, 1000))

	pull(t, c, "hub/team/api", "v1")
	if writes, spools := counting.writes.Load(), counting.spools.Load(); writes != 1 || spools != 4 {
		t.Errorf("%d manifests and %d blobs, want 1 and 4", writes, spools)
	}
	if slices.ContainsFunc(store.Lacks(counting), isAbout("Spooler")) {
		t.Errorf("what is lost: %q", store.Lacks(counting))
	}
}

func isAbout(ability string) func(string) bool {
	return func(line string) bool { return strings.HasPrefix(line, ability) }
}

// What Spool is good for: a process ends in the middle of a layer, and the next one asks
// the upstream for the rest of it, where a store without Spool begins again.
func TestWhatAStoreWithoutSpoolLoses(t *testing.T) {
	const size, half = 1 << 20, 1 << 19
	for want, wrap := range map[string]func(*store.Mem) store.Store{
		"bytes=524288-": func(s *store.Mem) store.Store { return newSpoolingStore(s) },
		"":              func(s *store.Mem) store.Store { return &countingStore{Store: s} },
	} {
		t.Run(fmt.Sprintf("Range %q", want), func(t *testing.T) {
			former, up := cachetest.New(t)
			former.Store = wrap(former.Store.(*store.Mem))
			next := &cache.Cache{Rules: former.Rules, Store: former.Store, Upstream: former.Upstream}
			defer end(t, next)
			img := up.AddImage("team/api", "v1", upstreamtest.Layers(1, size))

			up.Fail(upstreamtest.Fault{Kind: "blob", Reference: img.Layers[0].Digest.String(), Stall: half})
			_, body, err := former.Blob(t.Context(), "hub/team/api", img.Layers[0].Digest)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, body, half); err != nil {
				t.Fatal(err)
			}
			_ = body.Close()
			end(t, former)

			up.Heal()
			up.Reset()
			pull(t, next, "hub/team/api", "v1")
			for _, r := range up.Requests() {
				if r.Reference == img.Layers[0].Digest.String() && r.Header.Get("Range") != want {
					t.Errorf("the next process asks for %q, want %q", r.Header.Get("Range"), want)
				}
			}
		})
	}
}
