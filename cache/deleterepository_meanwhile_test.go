package cache_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func (c *clock) deleteRepository() {
	c.Helper()
	if err := c.cache.DeleteRepository(c.Context(), "app/api"); err != nil {
		c.Error(err)
	}
}

// wantStoredCounts is wrong unless a repository has that many tags, manifests and blobs.
func (c *clock) wantStoredCounts(when string, tags, manifests, blobs int) {
	c.Helper()
	if t, m, b := c.stored("app/api"); t != tags || m != manifests || b != blobs {
		c.Errorf("%s: %d tags, %d manifests and %d blobs are stored, want %d, %d and %d", when, t, m, b, tags, manifests, blobs)
	}
}

// A client that is served while its repository is deleted gets all of its blob, of which
// nothing is kept.
func TestDeleteRepositoryDuringAPull(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		d, served := img.Layers[0].Digest, make(chan []byte, 1)
		go func() {
			var data []byte
			_, body, err := c.cache.Blob(c.Context(), "app/api", d)
			if err == nil {
				data, err = io.ReadAll(body)
				_ = body.Close()
			}
			if err != nil {
				c.Errorf("the pull: %v", err)
			}
			served <- data
		}()
		c.pass(time.Second)
		c.deleteRepository()
		if data := <-served; digest.FromBytes(data) != d {
			c.Errorf("the client got %d bytes", len(data))
		}
		c.pass(time.Minute)
		c.wantStoredCounts("after the pull", 0, 0, 0)
		if n := c.cache.Stats().StoreErrors; n != 0 {
			c.Errorf("%d errors of the store are counted", n)
		}
	})
}

// A copy that begins after a deletion, and joins a download from before it, is whole.
func TestPullAfterDeleteRepositoryJoinsADownload(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		go c.take(img.Layers[0].Digest)
		c.pass(time.Second)
		c.deleteRepository()
		c.pass(time.Second)
		c.manifest("v1")
		c.pass(time.Minute)
		c.wantStoredCounts("after the copy", 1, 1, 2)
		if n := c.blobs(img.Layers[0].Digest); n != 2 {
			c.Errorf("the layer was fetched %d times", n)
		}
	})
}

// What another repository has is not linked into one that was deleted meanwhile: the client
// gets it by a download, of which nothing is kept.
func TestDeleteRepositoryDuringAnAdoption(t *testing.T) {
	inBubble(t, func(c *clock) {
		layers := upstreamtest.Layers(1, 5000)
		c.up.AddImage("team/web", "v1", layers)
		c.up.AddImage("team/api", "v1", layers)
		if _, _, err := c.cache.Manifest(c.Context(), "app/web", "v1"); err != nil {
			c.Fatal(err)
		}
		c.pass(time.Minute)
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		d := digest.FromBytes(layers[0])
		fetched := c.blobs(d)
		go c.take(d)
		c.pass(time.Second)
		c.deleteRepository()
		c.pass(time.Minute)
		if n := c.blobs(d) - fetched; n != 1 || c.cache.Stats().Adopted != 0 {
			c.Errorf("%d downloads, %d blobs are linked", n, c.cache.Stats().Adopted)
		}
		c.wantStoredCounts("after the pull", 0, 0, 0)
	})
}

// gated is a store that commits blobs, links manifests and deletes when its gates open.
type gated struct {
	*store.Mem
	commits, links, deletions chan struct{} // closed when open
}

// newGated makes a store; all but one gate, which it returns, are open.
func newGated(which func(*gated) *chan struct{}) (g *gated, closed chan struct{}) {
	open := make(chan struct{})
	close(open)
	g, closed = &gated{Mem: &store.Mem{}, commits: open, links: open, deletions: open}, make(chan struct{})
	*which(g) = closed
	return g, closed
}

func commits(g *gated) *chan struct{}   { return &g.commits }
func links(g *gated) *chan struct{}     { return &g.links }
func deletions(g *gated) *chan struct{} { return &g.deletions }

func (g *gated) Apply(ctx context.Context, b *store.Batch) error {
	if len(b.Content) > 0 {
		<-g.links
	}
	return g.Mem.Apply(ctx, b)
}

func (g *gated) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
	s, err := g.Mem.Spool(ctx, repo, want)
	return gatedSpool{s, g.commits}, err
}

func (g *gated) Delete(ctx context.Context, repo string, d digest.Digest) error {
	<-g.deletions
	return g.Mem.Delete(ctx, repo, d)
}

type gatedSpool struct {
	store.Spool
	open chan struct{}
}

func (s gatedSpool) Commit(ctx context.Context, got store.Info) error {
	<-s.open
	return s.Spool.Commit(ctx, got)
}

// with begins again with another store.
func (c *clock) with(s store.Store) {
	c.stop()
	c.store = s
	c.start()
}

// A deletion waits for what the store is being given, and gives up when its caller does.
func TestDeleteRepositoryWaitsForTheStore(t *testing.T) {
	for name, which := range map[string]func(*gated) *chan struct{}{"blobs": commits, "manifests": links} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(c *clock) {
				g, gate := newGated(which)
				c.with(g)
				c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
				c.manifest("v1")
				c.pass(time.Second)
				hasty, cancel := context.WithTimeout(c.Context(), time.Second)
				defer cancel()
				if err := c.cache.DeleteRepository(hasty, "app/api"); !errors.Is(err, context.DeadlineExceeded) {
					c.Errorf("a hasty deletion: %v", err)
				}
				deleted := make(chan error, 1)
				go func() { deleted <- c.cache.DeleteRepository(c.Context(), "app/api") }()
				c.pass(time.Minute)
				select {
				case err := <-deleted:
					c.Errorf("it did not wait: %v", err)
					deleted <- err
				default:
				}
				close(gate)
				if err := <-deleted; err != nil {
					c.Error(err)
				}
				c.store = g.Mem
				c.wantStoredCounts("after the deletion", 0, 0, 0)
				c.manifest("v1")
				c.pass(time.Minute)
				c.wantStoredCounts("after the next pull", 1, 1, 2)
			})
		})
	}
}

// What is pulled during a deletion does not become stored, since it may rely on what is
// about to go. The next pull copies all of it.
func TestPullDuringDeleteRepository(t *testing.T) {
	for name, latency := range map[string]time.Duration{"it ends before": 0, "it ends after": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(c *clock) {
				g, gate := newGated(deletions)
				c.with(g)
				layers := upstreamtest.Layers(2, 5000)
				c.up.AddImage("team/api", "v1", layers)
				c.up.AddImage("team/api", "v2", layers[:1])
				c.manifest("v1")
				c.pass(time.Minute)
				c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: latency})
				deleted := make(chan error, 1)
				go func() { deleted <- c.cache.DeleteRepository(c.Context(), "app/api") }()
				c.pass(time.Minute)
				c.manifest("v2")
				c.pass(time.Second)
				close(gate)
				if err := <-deleted; err != nil {
					c.Error(err)
				}
				c.store = g.Mem
				c.wantStoredCounts("after the deletion", 0, 0, 0)
				c.pass(time.Minute)
				c.wantStoredCounts("a minute later", 0, 0, 0)
				c.manifest("v2")
				c.pass(time.Minute)
				c.wantStoredCounts("after the next pull", 1, 1, 2)
			})
		})
	}
}

// Others are told of a deletion before it and after it, and the second time that it is over.
func TestDeletedTellsTheEnd(t *testing.T) {
	inBubble(t, func(c *clock) {
		g, gate := newGated(deletions)
		c.stop()
		c.store = g
		var told []cache.Deletion
		c.start(func(c *clock) {
			c.cache.Deleted = func(_ context.Context, d cache.Deletion) { c.noting(func() { told = append(told, d) }) }
		})
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
		c.manifest("v1")
		c.pass(time.Minute)
		go c.deleteRepository()
		c.pass(time.Minute)
		close(gate)
		c.pass(time.Minute)
		if len(told) != 2 || told[0].Over || !told[1].Over || told[0].At != told[1].At || told[0].Reference+told[1].Reference != "" {
			c.Errorf("%+v", told)
		}
	})
}

// What a pull, or the copy of another manifest, finds at the upstream after the deletion is
// not copied if it was asked for before.
func TestDeleteRepositoryWhileTheUpstreamIsAsked(t *testing.T) {
	img := func(c *clock) upstreamtest.Image {
		return c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(1, 1000), "amd64", "arm64")
	}
	for name, prepare := range map[string]func(c *clock){
		"for a manifest": func(c *clock) { img(c); c.up.Fail(upstreamtest.Fault{Kind: "manifest", Latency: 10 * time.Second}) },
		"for a platform": func(c *clock) {
			for _, child := range img(c).Children {
				c.up.Fail(upstreamtest.Fault{Kind: "manifest", Reference: child.Digest.String(), Latency: 10 * time.Second})
			}
		},
		"for referrers": func(c *clock) {
			one := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			c.up.AddArtifact("team/api", "", "application/spdx+json", one, []byte("sbom"))
			c.up.Fail(upstreamtest.Fault{Kind: "referrers", Latency: 10 * time.Second})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(c *clock) {
				prepare(c)
				go func() { _, _, _ = c.cache.Manifest(c.Context(), "app/api", "v1") }()
				c.pass(time.Second)
				c.deleteRepository()
				c.pass(time.Minute)
				c.wantStoredCounts("a minute later", 0, 0, 0)
			}, ruled(func(r *rule.Rule) { r.Platforms, r.Referrers = []string{"all"}, true }))
		})
	}
}

// A client that comes after the deletion and shares the question of one that came before
// it has its image copied.
func TestPullAfterDeleteRepositorySharesAQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		fresh   time.Duration
		digest  bool
		tagsNow int
	}{
		"by tag":              {tagsNow: 1},
		"by tag, in a window": {fresh: time.Minute},
		"by digest":           {digest: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *clock) {
				img := b.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
				reference := "v1"
				if c.digest {
					reference = img.Digest.String()
				}
				b.up.Fail(upstreamtest.Fault{Kind: "manifest", Latency: 10 * time.Second})
				go func() { _, _, _ = b.cache.Manifest(b.Context(), "app/api", reference) }()
				b.pass(time.Second)
				b.deleteRepository()
				b.pass(time.Second)
				b.manifest(reference)
				b.pass(time.Minute)
				b.wantStoredCounts("a minute later", c.tagsNow, 1, 2) // a tag that was seen before the deletion does not move
			}, func(b *clock) { b.cache.Freshness = c.fresh })
		})
	}
}

// A Prefetch whose repository is deleted meanwhile says so.
func TestDeleteRepositoryDuringAPrefetch(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Fail(upstreamtest.Fault{Kind: "manifest", Latency: 10 * time.Second})
		fetched := make(chan error, 1)
		go func() { fetched <- c.cache.Prefetch(c.Context(), "app/api", "v1", cache.PrefetchOptions{}) }()
		c.pass(time.Second)
		c.deleteRepository()
		if err := <-fetched; !errors.Is(err, cache.ErrDeleted) {
			c.Error(err)
		}
		c.pass(time.Minute)
		c.wantStoredCounts("a minute later", 0, 0, 0)
	})
}

// A job that a Copier carried here is given up too, and fetches nothing again.
func TestDeleteRepositoryDuringACarriedCopy(t *testing.T) {
	inBubble(t, func(c *clock) {
		h := &handed{c: c}
		c.stop()
		c.start(func(c *clock) { c.cache.Copier = h })
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(6, 5000))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		c.manifest("v1")
		c.pass(time.Second)
		copied := make(chan error, 1)
		go func() { copied <- c.cache.Copy(c.Context(), h.jobs[0]) }()
		c.pass(time.Second)
		c.deleteRepository()
		if err := <-copied; !errors.Is(err, cache.ErrDeleted) {
			c.Errorf("the copy: %v", err)
		}
		c.pass(time.Minute)
		c.wantStoredCounts("a minute later", 0, 0, 0)
		for _, l := range img.Layers {
			if n := c.blobs(l.Digest); n > 1 {
				c.Errorf("a layer was fetched %d times", n)
			}
		}
	})
}

// What clients have read of a repository is forgotten with it, be it stored or not.
func TestDeleteRepositoryForgetsWhatWasRead(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(1, 1000), "amd64", "arm64")
		read := func() { c.manifest(img.Children[0].Digest.String()) }
		c.manifest("v1")
		read()
		c.pass(time.Second)
		c.deleteRepository()
		n := c.up.Count("GET", "manifest", img.Children[0].Digest.String())
		read()
		if c.up.Count("GET", "manifest", img.Children[0].Digest.String()) != n+1 {
			c.Error("the upstream was not asked")
		}
	})
}
