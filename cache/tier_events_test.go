package cache_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// lostAnswer is a far store that sets a tag, and is gone before it says so.
type lostAnswer struct {
	*farStore
	lose bool
}

func (f *lostAnswer) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	err := f.farStore.SetTag(ctx, repo, tag, t)
	if err == nil && f.lose {
		f.lose = false
		f.fails.Store(true)
		return errors.New("connection lost")
	}
	return err
}

// A tag that moved although nobody heard of it has its event, once, also across a restart.
func TestEventOfATagThatMovedWithoutAnAnswer(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(map[bool]string{false: "the same process", true: "a restart"}[restart], func(t *testing.T) {
			inBubble(t, func(c *clock) {
				far := &lostAnswer{farStore: &farStore{Mem: &store.Mem{}}, lose: true}
				near := c.tiered(far, cache.Eviction{})
				var outbox *webhook.Outbox
				process := func() {
					tier := &store.Tier{Near: near, Far: far}
					c.Cleanup(func() { _ = tier.Close() })
					c.store = tier
					c.start(func(c *clock) {
						outbox = &webhook.Outbox{Records: tier, Receivers: []webhook.Receiver{{Name: "test", Sink: c.cache.Events}}}
						c.cache.Events = outbox
					})
				}
				end := func() {
					c.stop()
					if err := outbox.Shutdown(context.Background()); err != nil {
						c.Error(err)
					}
				}
				c.stop()
				process()
				img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 50_000))
				c.pull("app/api", "v1")
				c.pass(10 * time.Second)
				if now, err := far.Mem.Tag(c.Context(), "app/api", "v1"); err != nil || now.Digest != img.Digest {
					c.Fatalf("the tag did not move: %v", err)
				}
				if restart {
					end()
					process()
				}
				far.fails.Store(false)
				c.pass(10 * time.Minute)
				var tagged []string
				for _, ev := range c.events {
					if ev.Target.Tag != "" {
						tagged = append(tagged, ev.ID)
					}
				}
				if len(slices.Compact(tagged)) != 1 || len(tagged) != 1 {
					c.Errorf("%d events of the tag, want 1: %q", len(tagged), tagged)
				}
				if n := len(c.cache.Copies()); n != 0 {
					c.Errorf("%d copies are left", n)
				}
				end()
				process() // for the end of the test
				c.Cleanup(func() { _ = outbox.Shutdown(context.Background()) })
			})
		})
	}
}
