package cache_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

func (c *clock) storedTag(tag string) digest.Digest {
	t, err := c.store.Tag(c.Context(), "app/api", tag)
	if err != nil {
		return ""
	}
	return t.Digest
}

// An index does not wait for a child that is deleted.
func TestDeleteOfAWaitedChild(t *testing.T) {
	inBubble(t, func(c *clock) {
		ruled(func(r *rule.Rule) { r.Platforms = []string{"all"} })(c)
		img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: img.Children[1].Layers[1].Digest.String(), Status: 503})
		c.manifest("v1")
		c.pass(time.Minute)
		if err := c.cache.Delete(c.Context(), "app/api", img.Children[1].Digest.String()); err != nil {
			c.Fatal(err)
		}
		c.pass(time.Hour)
		if c.storedTag("v1") == "" {
			c.Errorf("the index waits for nothing: %+v", c.cache.Copies())
		}
	})
}

// A referrer or a platform that is deleted alone does not end the copy that leads to it.
func TestDeleteOfAPartThatIsAskedFor(t *testing.T) {
	for name, part := range map[string]func(c *clock) digest.Digest{
		"a referrer": func(c *clock) digest.Digest {
			img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			c.up.Fail(upstreamtest.Fault{Kind: "referrers", Latency: 10 * time.Second})
			return c.up.AddArtifact("team/api", "", "application/spdx+json", img, []byte("sbom")).Digest
		},
		"a platform": func(c *clock) digest.Digest {
			img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(1, 1000), "amd64", "arm64")
			c.up.Fail(upstreamtest.Fault{Kind: "manifest", Reference: img.Children[0].Digest.String(), Latency: 10 * time.Second})
			return img.Children[0].Digest
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(c *clock) {
				d := part(c)
				c.manifest("v1")
				c.pass(time.Second)
				if err := c.cache.Delete(c.Context(), "app/api", d.String()); err != nil {
					c.Error(err)
				}
				c.pass(time.Minute)
				if c.storedTag("v1") == "" {
					c.Error("the tag did not move")
				}
			}, ruled(func(r *rule.Rule) { r.Platforms, r.Referrers = []string{"all"}, true }))
		})
	}
}

// A copy whose rule was deleted or replaced moves nothing.
func TestRuleDeletedDuringTheCopy(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		c.manifest("v1")
		c.pass(time.Second)
		if err := c.rules.Delete("team"); err != nil {
			c.Fatal(err)
		}
		c.pass(time.Hour)
		if len(c.events) != 0 || c.storedTag("v1") != "" {
			c.Errorf("the rule is gone, and %d events come, tag %q", len(c.events), c.storedTag("v1"))
		}
	})
}

func TestRuleReplacedDuringTheCopy(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		next := c.up.AddImage("other/api", "v1", upstreamtest.Layers(1, 2000))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Repository: "team/api", Latency: 10 * time.Second})
		c.manifest("v1")
		c.pass(time.Second)
		if err := c.rules.Delete("team"); err != nil {
			c.Fatal(err)
		}
		if err := c.rules.Create(rule.Rule{Name: "other", Source: source + "/other/*", Target: "app/*"}); err != nil {
			c.Fatal(err)
		}
		c.manifest("v1")
		c.pass(time.Second)
		if c.storedTag("v1") != next.Digest {
			c.Fatal("setup")
		}
		c.pass(time.Hour)
		if c.storedTag("v1") != next.Digest {
			c.Errorf("the tag stands for the former source again")
		}
		c.up.Fail(upstreamtest.Fault{Status: 503})
		if _, _, err := c.cache.Manifest(c.Context(), "app/api", "v1"); err != nil {
			c.Errorf("what could be served cannot be any more: %v", err)
		}
	})
}

// A worker whose events were not taken over does not lose them: the cache that submitted sends them.
func TestCopierLosesNoEvents(t *testing.T) {
	inBubble(t, func(c *clock) {
		h := &handed{c: c}
		c.stop()
		c.start(func(c *clock) { c.cache.Copier = h })
		other := &clock{T: c.T, up: c.up, rules: c.rules, store: struct{ store.Store }{c.store}}
		refuses := true
		other.start(func(o *clock) {
			send := o.cache.Events
			o.cache.Events = webhook.SinkFunc(func(ctx context.Context, ev webhook.Event) error {
				if refuses {
					return errSink
				}
				return send.Send(ctx, ev)
			})
		})
		defer other.stop()
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Second)
		if err := other.cache.Copy(c.Context(), h.jobs[0]); err == nil {
			c.Fatal("setup")
		}
		refuses = false
		for n := 1; ; {
			c.pass(15 * time.Minute)
			if len(h.jobs) == n {
				break
			}
			n = len(h.jobs)
			_ = other.cache.Copy(c.Context(), h.jobs[n-1])
		}
		if len(c.events) != 2 || len(c.cache.Copies()) != 0 {
			c.Errorf("submitted %d times, %d copies left, %d events", len(h.jobs), len(c.cache.Copies()), len(c.events))
		}
	})
}

// hooked calls before a manifest is created.
type hooked struct {
	*store.Mem
	create, tag func()
}

// Apply is Create and SetTag as one.
func (h *hooked) Apply(ctx context.Context, b *store.Batch) error {
	if f := h.create; f != nil && len(b.Content) > 0 {
		h.create = nil
		f()
	}
	if f := h.tag; f != nil && len(b.Tags) > 0 {
		h.tag = nil
		f()
	}
	return h.Mem.Apply(ctx, b)
}

func (h *hooked) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	if store.IsManifest(want.MediaType) && h.create != nil {
		f := h.create
		h.create = nil
		f()
	}
	return h.Mem.Create(ctx, repo, want)
}

func (h *hooked) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	if h.tag != nil {
		f := h.tag
		h.tag = nil
		f()
	}
	return h.Mem.SetTag(ctx, repo, tag, t)
}

// oneByOne is a store that cannot make changes as one.
type oneByOne struct{ store.Store }

func (o oneByOne) Unwrap() store.Store { return o.Store }

// What is deleted while its copy ends does not come back.
func TestDeleteAtTheEnd(t *testing.T) {
	for _, what := range []string{"digest", "tag", "digest one by one", "tag one by one"} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(c *clock) {
				c.stop()
				h := &hooked{Mem: &store.Mem{}}
				c.store = h
				what, single := strings.CutSuffix(what, " one by one")
				if single {
					c.store = oneByOne{h}
				}
				c.start()
				img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
				del := func(ref string) func() {
					return func() {
						time.Sleep(time.Millisecond)
						if err := c.cache.Delete(c.Context(), "app/api", ref); err != nil {
							c.Error(err)
						}
					}
				}
				if what == "digest" {
					h.create = del(img.Digest.String())
				} else {
					h.tag = del("v1")
				}
				c.manifest("v1")
				c.pass(time.Hour)
				_, err := c.store.Stat(c.Context(), "app/api", img.Digest)
				if c.storedTag("v1") != "" || what == "digest" && err == nil {
					c.Errorf("%s: it was deleted and is there: tag %q, manifest %v, %d events", what, c.storedTag("v1"), err, len(c.events))
				}
			})
		})
	}
}

// A store that cannot list deletes all the same.
type unlisted struct {
	store.Store
	store.Deleter
}

func TestDeleteWithoutLister(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.stop()
		m := &store.Mem{}
		c.store = unlisted{m, m}
		c.start()
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Second)
		c.manifest("v1")
		if err := c.cache.Delete(c.Context(), "app/api", img.Digest.String()); err != nil {
			c.Fatal(err)
		}
		c.manifest("v1")
		c.pass(time.Second)
		if _, err := m.Stat(c.Context(), "app/api", img.Digest); err != nil {
			c.Errorf("the next pull does not copy again: %v", err)
		}
	})
}

// Two moves of a tag have two ids.
func TestOneIDForTwoMoves(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.stop()
		a := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.start(func(c *clock) {
			send := c.cache.Events
			c.cache.Events = webhook.SinkFunc(func(ctx context.Context, ev webhook.Event) error {
				if err := send.Send(ctx, ev); err != nil {
					return err
				}
				if ev.Target.Digest == a.Digest.String() && ev.Target.Tag == "" {
					time.Sleep(10 * time.Second) // a receiver takes its time
				}
				return nil
			})
		})
		c.manifest("v1")
		c.pass(time.Second)
		b := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.manifest("v1")
		c.pass(time.Second)
		if c.storedTag("v1") != b.Digest {
			c.Fatal("setup")
		}
		c.up.Tag("team/api", "v1", a.Digest)
		c.manifest("v1")
		c.pass(time.Hour)
		ids := map[string]int{}
		for _, ev := range c.events {
			ids[ev.ID]++
			if ids[ev.ID] > 1 {
				c.Errorf("two moves of %s have the id %s", ev.Subject(), ev.ID)
			}
		}
	})
}

var _ = strings.Contains

// What is read while it is deleted is not served from memory ever after.
func TestReadWhileDeleted(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.stop()
		h := &openHook{Mem: &store.Mem{}}
		c.store = h
		c.start()
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Second)
		c.stop()
		c.start()
		c.pass(time.Second)
		h.open = func() {
			if err := c.cache.Delete(c.Context(), "app/api", img.Digest.String()); err != nil {
				c.Error(err)
			}
		}
		c.manifest(img.Digest.String())
		c.pass(time.Hour)
		c.manifest(img.Digest.String())
		c.pass(time.Hour)
		if _, err := h.Mem.Stat(c.Context(), "app/api", img.Digest); err != nil {
			c.Errorf("it counts as complete and is not there: %v", err)
		}
	})
}
