package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// lostAnswer is a far store that is gone before it says that it has set a tag.
type lostAnswer struct {
	*farStore
	quick int  // tags that are set before that one
	sets  bool // it has set the tag
	lost  atomic.Bool
}

func (f *lostAnswer) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	if f.quick--; f.quick != -1 {
		return f.farStore.SetTag(ctx, repo, tag, t)
	}
	if f.sets {
		if err := f.farStore.SetTag(ctx, repo, tag, t); err != nil {
			return err
		}
	}
	f.lost.Store(true)
	f.fails.Store(true)
	return errors.New("connection lost")
}

// A tag that moved although nobody heard of it has its event, once, also across a restart,
// and none before it has moved.
func TestEventOfATagThatMovedWithoutAnAnswer(t *testing.T) {
	for _, what := range []lostTag{
		{then: "the same process", sets: true},
		{then: "a restart", sets: true},
		{then: "a restart, the outbox first", sets: true},
		{then: "a restart, the outbox first"},
		{then: "a restart, the outbox first", sets: true, second: true},
	} {
		t.Run(what.String(), func(t *testing.T) { inBubble(t, what.happens) })
	}
}

// lostTag is a tag that was set without an answer, and what comes then.
type lostTag struct {
	then   string
	sets   bool // the tag has moved
	second bool // another tag has moved before it
}

func (l lostTag) String() string {
	switch {
	case !l.sets:
		return l.then + ", it has not moved"
	case l.second:
		return l.then + ", the second of two"
	}
	return l.then
}

// happens is the whole story.
func (l lostTag) happens(c *clock) {
	far := &lostAnswer{farStore: &farStore{Mem: &store.Mem{}}, sets: l.sets}
	near := &store.Mem{}
	var outbox *webhook.Outbox
	process := func(outboxFirst bool) {
		tier := &store.Tier{Near: near, Far: far}
		c.Cleanup(func() { _ = tier.Close() })
		c.store = tier
		c.start(func(c *clock) {
			outbox = &webhook.Outbox{Records: tier, Receivers: []webhook.Receiver{{Name: "test", Sink: c.cache.Events}}}
			c.cache.Events = outbox
			if outboxFirst {
				if err := outbox.Start(c.Context()); err != nil {
					c.Error(err)
				}
				c.pass(0)
			}
		})
	}
	end := func() {
		c.stop()
		if err := outbox.Shutdown(context.Background()); err != nil {
			c.Error(err)
		}
	}
	c.stop()
	process(false)
	img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 50_000))
	want := 1
	if l.second {
		c.up.Tag("team/api", "v2", img.Digest)
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: time.Second})
		far.quick, want = 1, 2
		c.manifest("v1")
		c.manifest("v2")
	}
	c.pull("app/api", "v1")
	c.pass(10 * time.Second)
	if !far.lost.Load() {
		c.Fatal("no tag was to move")
	}
	if _, err := far.Mem.Tag(c.Context(), "app/api", "v1"); (err == nil) != l.sets {
		c.Fatalf("the tag: %v", err)
	}
	if l.then != "the same process" {
		end()
		process(l.then != "a restart")
	}
	c.pass(0)
	if n := len(c.tagged()); n > 0 && !l.sets {
		c.Errorf("%d events of a tag that has not moved", n)
	}
	far.fails.Store(false)
	c.pass(10 * time.Minute)
	if tagged := c.tagged(); len(tagged) != want {
		c.Errorf("%d events of tags, want %d: %q", len(tagged), want, tagged)
	}
	if n := len(c.cache.Copies()); n != 0 {
		c.Errorf("%d copies are left", n)
	}
	end()
	process(false) // for the end of the test
	c.Cleanup(func() { _ = outbox.Shutdown(context.Background()) })
}

// tagged returns the tags that events told of, with the IDs of the events.
func (c *clock) tagged() (all []string) {
	for _, ev := range c.events {
		if ev.Target.Tag != "" {
			all = append(all, fmt.Sprint(ev.Target.Tag, " ", ev.ID))
		}
	}
	return all
}
