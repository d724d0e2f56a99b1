package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// slowCommits is a store that takes its time to make bytes its own.
type slowCommits struct {
	*store.Mem
	took time.Duration
}

func (s *slowCommits) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
	spool, err := s.Mem.Spool(ctx, repo, want)
	return &slowCommit{spool, s.took}, err
}

type slowCommit struct {
	store.Spool
	took time.Duration
}

func (s *slowCommit) Commit(ctx context.Context, got store.Info) error {
	time.Sleep(s.took)
	return s.Spool.Commit(ctx, got)
}

func (c *clock) wantPeerBlob(when string, d digest.Digest, want cache.PeerBlob) {
	c.Helper()
	if b := c.cache.StatPeer(c.Context(), "app/api", c.sourceOf("api"), d); b != want {
		c.Errorf("%s: %+v, want %+v", when, b, want)
	}
}

// TestStatPeer follows a blob from the request of a client into the store, and out of it.
// To ask about it reaches no upstream.
func TestStatPeer(t *testing.T) {
	for _, size := range []int64{100, 300_000} { // in memory, and not
		inBubble(t, func(c *clock) {
			c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 5 * time.Second})
			d := c.up.AddBlob("team/api", upstreamtest.Bytes(1, int(size)))
			c.wantPeerBlob("unknown", d, cache.PeerBlob{Size: -1})
			c.pass(time.Minute)
			if n := len(c.up.Requests()); n != 0 {
				t.Fatalf("%d requests at the upstream", n)
			}
			c.wantBlobLater(d)
			c.pass(time.Second)
			c.wantPeerBlob("before the upstream has answered", d, cache.PeerBlob{Size: -1, Coming: true})
			c.pass(5 * time.Second)
			c.wantPeerBlob("while it is committed", d, cache.PeerBlob{Size: size, Front: size, Coming: true, Verified: true})
			c.pass(time.Minute)
			c.wantPeerBlob("stored", d, cache.PeerBlob{Size: size, Stored: true})
			if n := len(c.up.Requests()); n != 1 {
				t.Errorf("%d requests at the upstream", n)
			}
			c.up.Heal()
			failing := c.up.AddBlob("team/api", upstreamtest.Bytes(2, int(size)))
			c.up.Fail(upstreamtest.Fault{Kind: "blob", Flip: true})
			c.wantBlobLater(failing)
			c.pass(time.Minute)
			c.wantPeerBlob("after wrong bytes", failing, cache.PeerBlob{Size: -1})
		}, func(c *clock) { c.cache.Store = &slowCommits{&store.Mem{}, 30 * time.Second} })
	}
}

// TestStatPeerKnowsSizesOfManifests: the size of what is coming, before the upstream tells.
func TestStatPeerKnowsSizesOfManifests(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 100_000))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 5 * time.Second})
		c.manifest("v1") // and the copy begins
		c.pass(time.Second)
		c.wantPeerBlob("the copy", img.Layers[0].Digest, cache.PeerBlob{Size: img.Layers[0].Size, Coming: true})
	})
}

// wantBlobLater is a client that asks for a blob and waits for it.
func (c *clock) wantBlobLater(d digest.Digest) { go c.take(d) }
