package cache_test

import (
	"errors"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// What began before a deletion, or before it was known here, does not bring back what was deleted,
// whatever the clock of the cache that deleted it; what begins later does.
func TestDeletionIsOfItsTime(t *testing.T) {
	for name, c := range map[string]struct {
		at    time.Duration // when the other cache says that it was deleted; 0 if it does not say so
		began time.Duration // when the copy began that is given to this cache then
		gone  bool
	}{
		"a copy from before":                       {-time.Second, -2 * time.Second, true},
		"a copy from before it was known":          {-2 * time.Second, -time.Second, true},
		"no time":                                  {0, -time.Second, true},
		"a clock that is ahead":                    {30 * time.Second, 0, true},
		"a copy after that":                        {-time.Second, time.Second, false},
		"no time, and a copy after that":           {0, time.Second, false},
		"a time in the future is now":              {time.Hour, -time.Second, true},
		"a time in the future, and one after that": {time.Hour, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			inCrew(t, 2, func(w *crew) {
				job, img := given(w)
				w.pass(time.Minute)
				now, m := time.Now(), w.member[0]
				d := cache.Deletion{Repository: "app/api", Reference: img.Digest.String()}
				if c.at != 0 {
					d.At = now.Add(c.at)
				}
				if err := m.cache.Forget(w.Context(), d); err != nil {
					w.Fatal(err)
				}
				w.pass(2 * time.Second)
				_, err := m.cache.Accept(w.Context(), with(job, "NEW", map[string]any{"created": now.Add(c.began), "tags": nil}))
				if errors.Is(err, cache.ErrDeleted) != c.gone || !c.gone && err != nil {
					w.Errorf("%v", err)
				}
				w.settled()
				if _, err := w.far.Stat(w.Context(), "app/api", img.Digest); errors.Is(err, store.ErrNotFound) != c.gone {
					w.Errorf("%v", err)
				}
			})
		})
	}
}

// A deletion that is told again does not end a copy that began after it.
func TestDeletionIsToldTwice(t *testing.T) {
	inCrew(t, 1, func(w *crew) {
		img := w.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		m := w.member[0]
		var told []cache.Deletion
		for _, reference := range []string{"v1", img.Digest.String(), ""} {
			d := cache.Deletion{Repository: "app/api", Reference: reference, At: time.Now()}
			over := d
			over.Over = true
			told = append(told, d, over)
		}
		forget := func() {
			for _, d := range told {
				if err := m.cache.Forget(w.Context(), d); err != nil {
					w.Error(err)
				}
			}
		}
		forget()
		w.pass(time.Second)
		m.pull("v1")
		w.pass(time.Second)
		forget()
		if n := len(m.cache.Copies()); n != 1 {
			w.Errorf("%d copies", n)
		}
		w.settled()
		w.want(2, once(img))
	})
}

// A deletion is of the repository that it names, and not of the one that the rules make of the name
// here.
func TestDeletionIsOfItsRepository(t *testing.T) {
	inBubble(t, func(c *clock) {
		if err := c.rules.Create(rule.Rule{Name: "hub", Source: "docker.io/*", Target: "hub/*"}); err != nil {
			c.Fatal(err)
		}
		img := c.up.AddImage("library/alpine", "v1", upstreamtest.Layers(1, 1000))
		if _, _, err := c.cache.Manifest(c.Context(), "hub/alpine", "v1"); err != nil {
			c.Fatal(err)
		}
		c.pass(time.Minute)
		for _, name := range []string{"hub/alpine", "hub/library/alpine"} {
			gone := name == "hub/library/alpine"
			for _, reference := range []string{"v1", img.Digest.String()} {
				if err := c.cache.Forget(c.Context(), cache.Deletion{Repository: name, Reference: reference, At: time.Now()}); err != nil {
					c.Fatal(err)
				}
			}
			_, tag := c.store.Tag(c.Context(), "hub/library/alpine", "v1")
			_, manifest := c.store.Stat(c.Context(), "hub/library/alpine", img.Digest)
			if errors.Is(tag, store.ErrNotFound) != gone || errors.Is(manifest, store.ErrNotFound) != gone {
				c.Errorf("%s: tag %v, manifest %v", name, tag, manifest)
			}
		}
	})
}
