package cache_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

var errSink = errors.New("the sink takes nothing")

// The event of a tag is not lost when the process ends between the tag and the
// event, also when the next pull comes before the copy is taken up; its id stays.
func TestEventBetweenTagAndCrash(t *testing.T) {
	inBubble(t, func(c *clock) {
		var refused []webhook.Event
		c.stop()
		c.start(func(c *clock) {
			c.cache.Events = webhook.SinkFunc(func(_ context.Context, ev webhook.Event) error {
				c.noting(func() { refused = append(refused, ev) })
				return errSink
			})
		})
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(0)
		if _, err := c.store.Tag(c.Context(), "app/api", "v1"); err != nil || len(refused) != 1 || refused[0].Target.Tag != "v1" {
			c.Fatalf("the tag is to be there and its event not: %v, %v", err, refused)
		}
		c.stop()
		c.start()
		c.manifest("v1") // asks later than the sighting that moved the tag
		c.pass(time.Hour)
		if len(c.events) != 2 || c.events[0].ID != refused[0].ID || c.events[0].Target.Tag != "v1" || c.events[1].Target.Digest != img.Digest.String() {
			c.Errorf("%+v; refused was %+v", c.events, refused)
		}
	})
}

// A sink that takes nothing is no fault of the copy.
func TestSinkThatTakesNothing(t *testing.T) {
	inBubble(t, func(c *clock) {
		refuses := true
		c.stop()
		c.start(func(c *clock) {
			send := c.cache.Events
			c.cache.Events = webhook.SinkFunc(func(ctx context.Context, ev webhook.Event) error {
				var err error
				c.noting(func() {
					if refuses {
						err = errSink
					}
				})
				if err != nil {
					return err
				}
				return send.Send(ctx, ev)
			})
		})
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(24 * time.Hour)
		if s := c.only("paused"); s.Attempts != 0 || !strings.Contains(s.Err.Error(), "takes nothing") {
			c.Errorf("%+v", s)
		}
		c.noting(func() { refuses = false })
		c.pass(15 * time.Minute)
		if len(c.events) != 2 || len(c.cache.Copies()) != 0 {
			c.Errorf("%d events, %d copies", len(c.events), len(c.cache.Copies()))
		}
	})
}

// The event of a tag is not lost when the tag has moved on before the copy is taken up.
func TestEventOfATagThatMovedOn(t *testing.T) {
	inBubble(t, func(c *clock) {
		refuses := true
		c.stop()
		sink := func(c *clock) {
			send := c.cache.Events
			c.cache.Events = webhook.SinkFunc(func(ctx context.Context, ev webhook.Event) error {
				if refuses {
					return errSink
				}
				return send.Send(ctx, ev)
			})
		}
		c.start(sink)
		first := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(0)
		c.stop()
		refuses = false
		c.start(sink)
		second := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.manifest("v1")
		c.pass(0)
		tag, err := c.store.Tag(c.Context(), "app/api", "v1")
		if err != nil || tag.Digest != second.Digest {
			c.Fatalf("%v, %v", tag.Digest, err)
		}
		c.pass(time.Hour)
		told := map[string]int{}
		for _, ev := range c.events {
			if ev.Target.Tag == "v1" {
				told[ev.Target.Digest]++
			}
		}
		if told[first.Digest.String()] != 1 || told[second.Digest.String()] != 1 || len(c.events) != 4 {
			c.Errorf("%v of %d events", told, len(c.events))
		}
		if tag, err := c.store.Tag(c.Context(), "app/api", "v1"); err != nil || tag.Digest != second.Digest {
			c.Errorf("the tag moved back: %v, %v", tag.Digest, err)
		}
	})
}

// A tag that is seen to stand for a manifest while its copy ends moves too.
func TestTagThatComesAtTheLastMoment(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Tag("team/api", "v2", img.Digest)
		c.stop()
		c.start(func(c *clock) {
			send := c.cache.Events
			c.cache.Events = webhook.SinkFunc(func(ctx context.Context, ev webhook.Event) error {
				if ev.Target.Tag == "" { // the last of the copy
					c.manifest("v2")
				}
				return send.Send(ctx, ev)
			})
		})
		c.manifest("v1")
		c.pass(0)
		if tag, err := c.store.Tag(c.Context(), "app/api", "v2"); err != nil || tag.Digest != img.Digest {
			c.Errorf("v2: %v, %v", tag.Digest, err)
		}
		var tags []string
		for _, ev := range c.events {
			if ev.Target.Tag != "" {
				tags = append(tags, ev.Target.Tag)
			}
		}
		if len(tags) != 2 || tags[0] != "v1" || tags[1] != "v2" || len(c.cache.Copies()) != 0 {
			c.Errorf("events for %v, copies %+v", tags, c.cache.Copies())
		}
	})
}

// tagHook calls before before each tag is set.
type tagHook struct {
	*store.Mem
	before func()
}

func (h *tagHook) Apply(ctx context.Context, b *store.Batch) error {
	if len(b.Tags) > 0 {
		h.before()
	}
	return h.Mem.Apply(ctx, b)
}

func (h *tagHook) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	h.before()
	return h.Mem.SetTag(ctx, repo, tag, t)
}

// A tag that is seen again while it moves has one event.
func TestTagThatIsSeenAgainWhileItMoves(t *testing.T) {
	t.Run("as one", func(t *testing.T) { seenAgain(t, func(h *tagHook) store.Store { return h }) })
	t.Run("one by one", func(t *testing.T) { seenAgain(t, func(h *tagHook) store.Store { return oneByOne{h} }) })
}

func seenAgain(t *testing.T, stored func(*tagHook) store.Store) {
	inBubble(t, func(c *clock) {
		c.stop()
		hook := &tagHook{Mem: &store.Mem{}}
		hook.before = func() { hook.before = func() {}; c.manifest("v1") }
		c.store = stored(hook)
		c.start()
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(0)
		if len(c.events) != 2 || c.up.Count("GET", "manifest", "v1") != 2 || len(c.cache.Copies()) != 0 {
			c.Errorf("%d GETs, events %+v", c.up.Count("GET", "manifest", "v1"), c.events)
		}
	})
}

// dawdling is a store that tells late what it saw of a manifest, after a number of
// looks that are not.
type dawdling struct {
	*store.Mem
	digest digest.Digest
	quick  int // looks; negative: no more late ones
}

func (d *dawdling) Open(ctx context.Context, repo string, of digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	info, body, err := d.Mem.Open(ctx, repo, of)
	if of == d.digest {
		if d.quick--; d.quick == -1 {
			time.Sleep(time.Minute)
		}
	}
	return info, body, err
}

// A pull that looks while a copy ends does not make its event be sent again.
func TestPullAtTheEndOfACopy(t *testing.T) {
	for quick := range 4 {
		inBubble(t, func(c *clock) {
			img := c.up.AddImage("team/api", "", upstreamtest.Layers(1, 1000))
			d := &dawdling{Mem: &store.Mem{}, quick: 1 << 30, digest: img.Digest}
			c.stop()
			c.store = d
			c.start()
			c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
			c.manifest(img.Digest.String())
			c.pass(time.Second)
			d.quick = quick
			c.manifest(img.Digest.String())
			c.pass(time.Hour)
			if len(c.events) != 1 || len(c.cache.Copies()) != 0 {
				c.Errorf("after %d looks: %d events, %d copies", quick, len(c.events), len(c.cache.Copies()))
			}
		})
	}
}
