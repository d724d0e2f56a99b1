package cache_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// sharedGated is a gated store that other caches change too.
type sharedGated struct{ *gated }

func (sharedGated) Shared() bool { return true }

// toldReplica is a cache of a fleet that is told of the deletion of its repository.
type toldReplica struct {
	*clock
	mem  *store.Mem
	told cache.Deletion
}

// asReplica makes a cache a replica; which is the gate of its store that is closed.
func asReplica(c *clock, which func(*gated) *chan struct{}) (r *toldReplica, gate chan struct{}) {
	g, gate := newGated(which)
	c.with(sharedGated{g})
	return &toldReplica{clock: c, mem: g.Mem}, gate
}

// begin tells the replica of a deletion, by a clock that may differ from the replica's.
func (r *toldReplica) begin(ahead time.Duration) {
	r.Helper()
	r.told.At = time.Now().Add(ahead)
	r.tell(false)
}

// tell tells the replica of the deletion, or of its end.
func (r *toldReplica) tell(over bool) {
	r.Helper()
	r.told.Repository, r.told.Over = "app/api", over
	if err := r.cache.Forget(r.Context(), r.told); err != nil {
		r.Error(err)
	}
}

// wantWhole is wrong if a manifest is stored without what it names.
func (r *toldReplica) wantWhole(img upstreamtest.Image, stored bool) {
	r.Helper()
	_, err := r.mem.Stat(r.Context(), "app/api", img.Digest)
	if (err == nil) != stored {
		r.Errorf("the image is stored: %t, want %t", err == nil, stored)
	}
	for _, l := range img.Layers {
		if _, err2 := r.mem.Stat(r.Context(), "app/api", l.Digest); err == nil && err2 != nil {
			r.Errorf("the image is stored without a layer: %v", err2)
		}
	}
}

// What a replica pulls while another one deletes the repository may rely on what is about
// to go, so it is not kept, whatever the clocks say. After the end, pulls are copied again.
func TestForgetRepositoryBetweenTheTellings(t *testing.T) {
	for name, c := range map[string]struct{ ahead, latency time.Duration }{
		"the copy ends before the deletion": {},
		"the copy ends after the deletion":  {latency: 10 * time.Second},
		"the deleter's clock is behind":     {ahead: -5 * time.Second, latency: 10 * time.Second},
		"the deleter's clock is ahead":      {ahead: 5 * time.Second, latency: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *clock) {
				r, gate := asReplica(b, links)
				close(gate)
				layers := upstreamtest.Layers(1, 5000)
				v1 := r.up.AddImage("team/api", "v1", layers)
				r.manifest("v1")
				r.pass(time.Minute)
				r.begin(c.ahead)
				v2 := r.up.AddImage("team/api", "v2", append(layers, upstreamtest.Layers(1, 7000)...))
				r.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: c.latency})
				r.manifest("v2")
				r.pass(time.Second)
				for _, err := range []error{r.mem.DeleteTag(r.Context(), "app/api", "v1"),
					r.mem.Delete(r.Context(), "app/api", v1.Digest), r.mem.Delete(r.Context(), "app/api", v1.Layers[0].Digest)} {
					if err != nil {
						r.Error(err)
					}
				}
				r.tell(true)
				r.pass(time.Minute)
				r.wantWhole(v2, false)
				r.manifest("v2")
				r.pass(time.Minute)
				r.wantWhole(v2, true)
			})
		})
	}
}

// A replica that hears of the end first, or not at all, keeps what it pulls later.
func TestForgetRepositoryOutOfOrder(t *testing.T) {
	for name, tell := range map[string]func(*toldReplica){
		"the end before the beginning": func(r *toldReplica) {
			r.told.At = time.Now()
			r.tell(true)
			r.tell(false)
		},
		"the beginning twice": func(r *toldReplica) {
			r.begin(0)
			r.tell(true)
			r.tell(false)
		},
		"the beginning twice, by a clock that is ahead": func(r *toldReplica) {
			r.begin(2 * time.Minute)
			r.tell(true)
			r.tell(false)
		},
		"no time": func(r *toldReplica) { r.tell(false) },
		"no end":  func(r *toldReplica) { r.begin(0); r.pass(10 * time.Minute) },
	} {
		for _, shared := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, shared: %t", name, shared), func(t *testing.T) {
				inBubble(t, func(c *clock) {
					r := &toldReplica{clock: c, mem: c.store.(*store.Mem)}
					if shared {
						shared, gate := asReplica(c, links)
						close(gate)
						r = shared
					}
					img := r.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
					tell(r)
					r.pass(time.Second)
					r.manifest("v1")
					r.pass(time.Minute)
					r.wantWhole(img, true)
				})
			})
		}
	}
}

// A replica that is told of a deletion lets what it writes end before it answers.
func TestForgetRepositoryWaitsForTheStore(t *testing.T) {
	inBubble(t, func(c *clock) {
		r, gate := asReplica(c, commits)
		img := r.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
		go r.take(img.Layers[0].Digest)
		r.pass(time.Second)
		go func() {
			time.Sleep(time.Second / 2)
			close(gate)
		}()
		began := time.Now()
		r.begin(0)
		if took := time.Since(began); took != time.Second/2 {
			r.Errorf("it took %v", took)
		}
	})
}

// What is told again does not end a copy that began after the deletion.
func TestForgetRepositoryAgain(t *testing.T) {
	inBubble(t, func(c *clock) {
		r := &toldReplica{clock: c, mem: c.store.(*store.Mem)}
		img := r.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
		r.begin(0)
		r.tell(true)
		r.pass(time.Second)
		r.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		r.manifest("v1")
		for _, over := range []bool{false, true, true} {
			r.pass(time.Second)
			r.tell(over)
		}
		r.pass(time.Minute)
		r.wantWhole(img, true)
	})
}

// The end of one deletion does not open a repository that another replica still deletes,
// and many other deletions do not either.
func TestForgetRepositoryOfTwo(t *testing.T) {
	inBubble(t, func(c *clock) {
		one, gate := asReplica(c, links)
		close(gate)
		two := *one
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
		one.begin(0)
		two.begin(time.Millisecond)
		one.tell(true)
		for i := range 5000 {
			if err := c.cache.Forget(c.Context(), cache.Deletion{Repository: "app/other", Reference: fmt.Sprint("v", i), At: time.Now()}); err != nil {
				c.Fatal(err)
			}
		}
		c.pass(time.Second)
		c.manifest("v1")
		c.pass(time.Minute)
		one.wantWhole(img, false)
		two.tell(true)
		c.pass(time.Second)
		c.manifest("v1")
		c.pass(time.Minute)
		one.wantWhole(img, true)
	})
}

// A beginning that is still followed when the end is told keeps nothing closed.
func TestForgetRepositorySlowly(t *testing.T) {
	inBubble(t, func(c *clock) {
		g, gate := newGated(deletions)
		c.with(g)
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
		c.manifest("v1")
		c.pass(time.Minute)
		r := &toldReplica{clock: c, mem: g.Mem}
		d := cache.Deletion{Repository: "app/api", At: time.Now()}
		for _, d.Over = range []bool{false, true} {
			go func() {
				if err := c.cache.Forget(c.Context(), d); err != nil {
					c.Error(err)
				}
			}()
			c.pass(3 * time.Second)
		}
		close(gate)
		c.pass(time.Second)
		r.wantWhole(img, false)
		c.manifest("v1")
		c.pass(time.Minute)
		r.wantWhole(img, true)
	})
}

// hasty is a store whose deletions of blobs end with their context.
type hasty struct {
	*store.Mem
	gate     chan struct{}
	manifest digest.Digest
}

func (h *hasty) Delete(ctx context.Context, repo string, d digest.Digest) error {
	if d != h.manifest {
		select {
		case <-h.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return h.Mem.Delete(ctx, repo, d)
}

// A replica with a store of its own, which is told again since it did not answer in time,
// does not delete beside a copy what that relies on.
func TestForgetRepositoryToldAgain(t *testing.T) {
	inBubble(t, func(c *clock) {
		layers := upstreamtest.Layers(1, 5000)
		v1 := c.up.AddImage("team/api", "v1", layers)
		h := &hasty{&store.Mem{}, make(chan struct{}), v1.Digest}
		c.with(h)
		c.manifest("v1")
		c.pass(time.Minute)
		at := time.Now()
		forget := func(over bool) error {
			ctx, cancel := context.WithTimeout(c.Context(), 2*time.Second)
			defer cancel()
			return c.cache.Forget(ctx, cache.Deletion{Repository: "app/api", At: at, Over: over})
		}
		if forget(false) == nil || forget(true) == nil {
			c.Fatal("it deletes at once")
		}
		c.pass(time.Second)
		v2 := c.up.AddImage("team/api", "v2", append(layers, upstreamtest.Layers(1, 7000)...))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 5 * time.Second})
		c.manifest("v2")
		c.pass(time.Second)
		close(h.gate)
		if err := forget(true); err != nil {
			c.Error(err)
		}
		c.pass(time.Minute)
		(&toldReplica{clock: c, mem: h.Mem}).wantWhole(v2, false)
	})
}
