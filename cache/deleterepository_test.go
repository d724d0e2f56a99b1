package cache_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// stored counts what a repository has.
func (c *clock) stored(repo string) (tags, manifests, blobs int) {
	c.Helper()
	count := func(err error, n *int) {
		if *n++; err != nil {
			c.Error(err)
		}
	}
	m := c.store.(*store.Mem)
	for _, err := range m.TagNames(c.Context(), repo, "") {
		count(err, &tags)
	}
	for _, err := range m.Manifests(c.Context(), repo) {
		count(err, &manifests)
	}
	for _, err := range m.Blobs(c.Context(), repo) {
		count(err, &blobs)
	}
	return tags, manifests, blobs
}

// A repository that is deleted has nothing left, and copies into it do not bring it back.
// What it shares with others stays there.
func TestDeleteRepository(t *testing.T) {
	inBubble(t, func(c *clock) {
		for i := range 3 {
			c.up.AddImage("team/api", fmt.Sprint("v", i), upstreamtest.Layers(2, 1000+i))
			c.manifest(fmt.Sprint("v", i))
		}
		c.up.AddImage("team/web", "v0", upstreamtest.Layers(2, 1000)) // the layers of team/api:v0
		if _, _, err := c.cache.Manifest(c.Context(), "app/web", "v0"); err != nil {
			c.Fatal(err)
		}
		c.pass(time.Hour)
		if tags, manifests, blobs := c.stored("app/api"); tags != 3 || manifests != 3 || blobs < 6 {
			c.Fatalf("%d tags, %d manifests, %d blobs", tags, manifests, blobs)
		}
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		c.up.AddImage("team/api", "late", upstreamtest.Layers(1, 5000))
		c.manifest("late")
		c.pass(time.Second)
		c.events = nil
		if err := c.cache.DeleteRepository(c.Context(), "app/api"); err != nil {
			c.Fatal(err)
		}
		if n := len(c.events); n != 3 || c.events[0].Action != webhook.ActionDelete {
			c.Errorf("%d events: %+v", n, c.events)
		}
		c.pass(time.Hour)
		if tags, manifests, blobs := c.stored("app/api"); tags+manifests+blobs != 0 || len(c.cache.Copies()) != 0 {
			c.Errorf("left are %d tags, %d manifests, %d blobs, copies %+v", tags, manifests, blobs, c.cache.Copies())
		}
		if tags, manifests, blobs := c.stored("app/web"); tags != 1 || manifests != 1 || blobs != 3 {
			c.Errorf("of another repository: %d tags, %d manifests, %d blobs", tags, manifests, blobs)
		}
		c.up.Heal()
		c.manifest("v1")
		c.pass(time.Hour)
		if tags, manifests, _ := c.stored("app/api"); tags != 1 || manifests != 1 {
			c.Errorf("pulled again: %d tags, %d manifests", tags, manifests)
		}
	})
}

// failing is a store that cannot delete blobs.
type failing struct {
	*store.Mem
	err error
}

func (f *failing) DeleteTag(ctx context.Context, repo, tag string) error {
	if f.err != nil {
		return f.err
	}
	return f.Mem.DeleteTag(ctx, repo, tag)
}

func TestDeleteRepositoryFails(t *testing.T) {
	inBubble(t, func(c *clock) {
		f := &failing{Mem: &store.Mem{}, err: errors.New("the disk is broken")}
		c.stop()
		c.store = f
		c.start()
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Hour)
		if err := c.cache.DeleteRepository(c.Context(), "app/api"); !errors.Is(err, f.err) {
			c.Errorf("%v", err)
		}
		f.err = nil
		if err := c.cache.DeleteRepository(c.Context(), "app/api"); err != nil {
			c.Error(err)
		}
		if err := c.cache.DeleteRepository(c.Context(), "app/api"); err != nil {
			c.Errorf("of nothing: %v", err)
		}
		c.stop()
		c.store = plainStore{c.store}
		c.start()
		if err := c.cache.DeleteRepository(c.Context(), "app/api"); !errors.Is(err, errors.ErrUnsupported) {
			c.Errorf("a store that cannot: %v", err)
		}
	})
}
