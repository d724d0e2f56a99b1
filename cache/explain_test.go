package cache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestExplainKnowsAdmit: Explain names the digest that Admit keeps a tag from, and why,
// until it is admitted.
func TestExplainKnowsAdmit(t *testing.T) {
	c, up := cachetest.New(t)
	c.Limits.StaleTimeout = time.Minute // a slow answer is no other answer
	var verdict error
	c.Admit = func(context.Context, cache.Candidate) error { return verdict }
	first := up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	pull := func() {
		t.Helper()
		if _, _, err := c.Manifest(t.Context(), "hub/team/api", "v1"); err != nil {
			t.Fatal(err)
		}
		if err := c.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pull()
	second := up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
	until := time.Now().Add(time.Hour)
	for _, verdict = range []error{errors.New("it was not scanned"), &cache.Hold{Until: until, Reason: "it is too young"}} {
		pull()
		x, err := c.Explain(t.Context(), "hub/team/api", "v1")
		if err != nil || x.Digest != first.Digest || x.Held != second.Digest || !errors.Is(x.HeldErr, verdict) && x.HeldErr.Error() != verdict.Error() {
			t.Errorf("%+v, %v", x, err)
		}
		if !strings.Contains(x.Text, "is not admitted: "+verdict.Error()) {
			t.Error(x.Text)
		}
	}
	third := up.AddImage("team/api", "v1", upstreamtest.Layers(1, 3000))
	verdict = nil
	pull()
	if x, err := c.Explain(t.Context(), "hub/team/api", "v1"); err != nil || x.Held != "" || x.Digest != third.Digest {
		t.Errorf("%+v, %v", x, err)
	}
}
