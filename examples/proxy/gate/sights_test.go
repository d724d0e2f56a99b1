package gate_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/gate"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// candidate is an image that a tag of a rule's repository moves to.
func candidate(rule, repository, tag, content string) cache.Candidate {
	return cache.Candidate{
		Repository: "hub/" + repository, Tag: tag, Source: upstream.Source{Rule: rule, Host: "docker.io", Repository: repository},
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(content), Size: int64(len(content))},
	}
}

// started starts gates that end with the test.
func started(t *testing.T, g *gate.Gates, rules map[string]gate.Rule) *gate.Gates {
	t.Helper()
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	g.Assign(rules)
	return g
}

// wantHeld checks that a candidate is held for so long.
func wantHeld(t *testing.T, g *gate.Gates, c cache.Candidate, left time.Duration) {
	t.Helper()
	err := g.Admit(t.Context(), c)
	h, ok := errors.AsType[*cache.Hold](err)
	if !ok || time.Until(h.Until) != left || h.Reason == "" {
		t.Errorf("%s:%s: %v, want a hold for %v", c.Source.Repository, c.Tag, err, left)
	}
}

func wantAdmitted(t *testing.T, g *gate.Gates, c cache.Candidate) {
	t.Helper()
	if err := g.Admit(t.Context(), c); err != nil {
		t.Errorf("%s:%s: %v", c.Source.Repository, c.Tag, err)
	}
}

var threeDays = map[string]gate.Rule{"hub": {MinAge: 72 * time.Hour}}

// TestAgeCountsFromTheFirstSight: over a restart too, for all tags of the repository, and
// for no other repository or rule.
func TestAgeCountsFromTheFirstSight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := &store.Mem{}
		g := started(t, &gate.Gates{Records: records}, threeDays)
		c := candidate("hub", "library/alpine", "3.22", "x")
		wantHeld(t, g, c, 72*time.Hour)
		time.Sleep(24 * time.Hour)
		wantHeld(t, g, c, 48*time.Hour)
		wantHeld(t, g, candidate("hub", "library/alpine", "latest", "x"), 48*time.Hour)
		wantHeld(t, g, candidate("hub", "library/alpine", "3.22", "y"), 72*time.Hour)
		wantHeld(t, g, candidate("hub", "library/other", "3.22", "x"), 72*time.Hour)
		wantAdmitted(t, g, candidate("ungated", "library/alpine", "3.22", "x"))
		g.Close()

		g = started(t, &gate.Gates{Records: records}, map[string]gate.Rule{"hub": {MinAge: 72 * time.Hour}, "other": {MinAge: 72 * time.Hour}})
		wantHeld(t, g, c, 48*time.Hour)
		wantHeld(t, g, candidate("other", "library/alpine", "3.22", "x"), 72*time.Hour)
		time.Sleep(48*time.Hour - 1)
		wantHeld(t, g, c, 1)
		time.Sleep(time.Nanosecond)
		wantAdmitted(t, g, c)
		g.Assign(map[string]gate.Rule{"hub": {MinAge: 100 * time.Hour}})
		wantHeld(t, g, c, 28*time.Hour)
		g.Assign(nil)
		wantAdmitted(t, g, c)
	})
}

// TestRuleWithMostSightsMakesRoom: a crowd of digests in one rule makes no other rule hold
// an image anew, and what was forgotten is forgotten on disk too.
func TestRuleWithMostSightsMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := &store.Mem{}
		rules := map[string]gate.Rule{"hub": {MinAge: 72 * time.Hour}, "crowd": {MinAge: time.Hour}}
		g := started(t, &gate.Gates{Records: records, Sights: 10}, rules)
		mine := candidate("hub", "library/alpine", "3.22", "x")
		wantHeld(t, g, mine, 72*time.Hour)
		time.Sleep(time.Hour)
		for i := range 100 {
			wantHeld(t, g, candidate("crowd", fmt.Sprintf("c/%d", i), "v1", "x"), time.Hour)
		}
		wantHeld(t, g, mine, 71*time.Hour)
		late := candidate("hub", "library/alpine", "3.22", "y")
		wantHeld(t, g, late, 72*time.Hour)
		wantHeld(t, g, candidate("crowd", "c/99", "v1", "x"), time.Hour)
		time.Sleep(time.Minute)
		wantHeld(t, g, late, 72*time.Hour-time.Minute)
		wantHeld(t, g, candidate("crowd", "c/0", "v1", "x"), time.Hour) // forgotten
		if n := count(t, records); n != 10 {
			t.Errorf("%d records, want 10", n)
		}
		g.Close()
		g = started(t, &gate.Gates{Records: records, Sights: 5}, rules)
		if n := count(t, records); n != 5 {
			t.Errorf("%d records after a restart with less room, want 5", n)
		}
		wantHeld(t, g, mine, 71*time.Hour-time.Minute)
	})
}

func count(t *testing.T, records store.Records) (n int) {
	t.Helper()
	for _, err := range records.RecordKeys(t.Context(), "gate-sights") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestClockThatWasAhead: a sight from the future counts from now, not for years.
func TestClockThatWasAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := &store.Mem{}
		c := candidate("hub", "library/alpine", "3.22", "x")
		g := started(t, &gate.Gates{Records: records}, threeDays)
		wantHeld(t, g, c, 72*time.Hour)
		for key := range records.RecordKeys(t.Context(), "gate-sights") {
			data, err := records.Record(t.Context(), "gate-sights", key)
			if err != nil {
				t.Fatal(err)
			}
			data = []byte(replaceYear(string(data), time.Now().Year(), 2099))
			if err := records.PutRecord(t.Context(), "gate-sights", key, data); err != nil {
				t.Fatal(err)
			}
		}
		g = started(t, &gate.Gates{Records: records}, threeDays)
		time.Sleep(time.Hour)
		wantHeld(t, g, c, 72*time.Hour)
		time.Sleep(time.Hour)
		g = started(t, &gate.Gates{Records: records}, threeDays)
		wantHeld(t, g, c, 71*time.Hour)
	})
}

// broken is a store whose records cannot be written, or not be read.
type broken struct {
	*store.Mem
	unreadable bool
}

var errDisk = errors.New("the disk is full")

func (b broken) PutRecord(context.Context, string, string, []byte) error { return errDisk }

func (b broken) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	if b.unreadable {
		return func(yield func(string, error) bool) { yield("", errDisk) }
	}
	return b.Mem.RecordKeys(ctx, kind)
}

// TestSightsWithoutADisk: an image is held all the same, and admitted in time.
func TestSightsWithoutADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, records := range map[string]store.Records{"none": nil, "broken": broken{Mem: &store.Mem{}}} {
			g := started(t, &gate.Gates{Records: records}, threeDays)
			c := candidate("hub", "library/alpine", "3.22", name)
			wantHeld(t, g, c, 72*time.Hour)
			time.Sleep(72 * time.Hour)
			wantAdmitted(t, g, c)
		}
		g := &gate.Gates{Records: broken{&store.Mem{}, true}}
		if err := g.Start(t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("%v, want %v", err, errDisk)
		}
		g.Assign(threeDays)
		wantHeld(t, g, candidate("hub", "library/alpine", "3.22", "x"), 72*time.Hour)
	})
}

// TestForeignRecords: what was not written here is deleted and counts for nothing.
func TestForeignRecords(t *testing.T) {
	records := &store.Mem{}
	for key, data := range map[string]string{"a": "{", "b": `{"first":"2001-01-01T00:00:00Z"}`, "c": "null"} {
		if err := records.PutRecord(t.Context(), "gate-sights", key, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	started(t, &gate.Gates{Records: records}, threeDays)
	if n := count(t, records); n != 0 {
		t.Errorf("%d records are left", n)
	}
}
