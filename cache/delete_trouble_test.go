package cache_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// slowReads is a store from which manifests are read when its gate opens.
type slowReads struct {
	*gated
	reads chan struct{} // closed when open
}

type slowBody struct {
	io.ReadSeekCloser
	open chan struct{}
}

func (s slowBody) Read(p []byte) (int, error) { <-s.open; return s.ReadSeekCloser.Read(p) }

func (s *slowReads) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	i, body, err := s.Mem.Open(ctx, repo, d)
	if err == nil && i.IsManifest() {
		body = slowBody{body, s.reads}
	}
	return i, body, err
}

// A manifest that was being read when it was deleted is not remembered as stored.
func TestDeleteWhileAManifestIsRead(t *testing.T) {
	for name, remove := range map[string]func(*clock, digest.Digest) error{
		"with its repository": func(c *clock, _ digest.Digest) error { return c.cache.DeleteRepository(c.Context(), "app/api") },
		"alone":               func(c *clock, d digest.Digest) error { return c.cache.Delete(c.Context(), "app/api", d.String()) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(c *clock) {
				img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
				c.manifest("v1")
				c.pass(time.Minute)
				mem := c.store.(*store.Mem)
				g, gate := newGated(deletions)
				g.Mem = mem
				s := &slowReads{g, make(chan struct{})}
				c.with(s)
				go func() { _, _, _ = c.cache.Manifest(c.Context(), "app/api", img.Digest.String()) }()
				c.pass(time.Second)
				deleted := make(chan error, 1)
				go func() { deleted <- remove(c, img.Digest) }()
				c.pass(time.Second)
				close(s.reads)
				c.pass(time.Second)
				close(gate)
				if err := <-deleted; err != nil {
					c.Error(err)
				}
				c.store = mem
				c.manifest("v1")
				c.pass(time.Minute)
				c.wantStoredCounts("after the next pull", 1, 1, 2)
			})
		})
	}
}

// A hook or a store that panics does not keep a repository from being used.
func TestPanicsAroundDeleteRepository(t *testing.T) {
	recovered := func(f func()) {
		defer func() { _ = recover() }()
		f()
	}
	t.Run("the hook", func(t *testing.T) {
		inBubble(t, func(c *clock) {
			c.stop()
			c.start(func(c *clock) { c.cache.Deleted = func(context.Context, cache.Deletion) { panic("hook") } })
			c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
			recovered(c.deleteRepository)
			c.pass(time.Second)
			c.manifest("v1")
			c.pass(time.Minute)
			c.wantStoredCounts("after the next pull", 1, 1, 2)
		})
	})
	t.Run("the store", func(t *testing.T) {
		inBubble(t, func(c *clock) {
			c.with(&panics{&store.Mem{}})
			layers := upstreamtest.Layers(1, 5000)
			c.up.AddImage("team/web", "v1", layers)
			c.up.AddImage("team/api", "v1", layers)
			if _, _, err := c.cache.Manifest(c.Context(), "app/web", "v1"); err != nil {
				c.Fatal(err)
			}
			c.pass(time.Minute)
			recovered(func() { c.take(digest.FromBytes(layers[0])) })
			ctx, cancel := context.WithTimeout(c.Context(), time.Hour)
			defer cancel()
			if err := c.cache.DeleteRepository(ctx, "app/api"); err != nil {
				c.Error(err)
			}
		})
	})
}

// panics is a store that panics when it may link what another repository has.
type panics struct{ *store.Mem }

func (p *panics) Adopt(ctx context.Context, repo string, want store.Info, allowed func(context.Context, io.ReadSeeker) error) error {
	return p.Mem.Adopt(ctx, repo, want, func(ctx context.Context, have io.ReadSeeker) error {
		if err := allowed(ctx, have); err != nil {
			return err
		}
		panic("store")
	})
}
