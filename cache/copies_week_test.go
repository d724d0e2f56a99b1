package cache_test

import (
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// No copy lives for ever: trouble that does not count as the copy's own parks it after
// a week, and a parked copy that nobody wants is given up after another.
func TestNoCopyLivesForEver(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		fault upstreamtest.Fault
		setup func(*clock)
	}{
		"the upstream is in trouble": {fault: upstreamtest.Fault{Kind: "blob", Status: 503}},
		"the upstream has a limit":   {fault: upstreamtest.Fault{Kind: "blob", Status: 429, RetryAfter: "3600"}},
		"the store is full": {setup: func(c *clock) {
			c.store = &store.Mem{MaxBytes: 8 << 10}
			c.cache.Store = c.store
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var setup []func(*clock)
			if c.setup != nil {
				setup = append(setup, c.setup)
			}
			inBubble(t, func(k *clock) {
				k.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 16<<10))
				if c.setup == nil {
					k.up.Fail(c.fault)
				}
				k.manifest("v1")
				k.pass(6 * day)
				if all := k.cache.Copies(); len(all) != 1 || all[0].State != "paused" && all[0].State != "running" {
					k.Fatalf("after six days: %v", all)
				}
				k.pass(2 * day)
				k.only("parked")
				if len(k.parked) != 1 {
					k.Errorf("parked is told %d times", len(k.parked))
				}
				k.pass(8 * day)
				if all := k.cache.Copies(); len(all) != 0 {
					k.Errorf("after two weeks: %v", all)
				}
			}, setup...)
		})
	}
}

// Parked copies that a former process left are given up as well.
func TestParkedCopyOfAFormerProcessEnds(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 100))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 503})
		c.manifest("v1")
		c.pass(8 * 24 * time.Hour)
		c.only("parked")
		c.stop()
		c.start()
		c.only("parked")
		c.pass(8 * 24 * time.Hour)
		if all := c.cache.Copies(); len(all) != 0 {
			c.Errorf("%v", all)
		}
	})
}
