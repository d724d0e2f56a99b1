package main

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// patience is how long a step of the story may take, on a busy machine too.
const patience = 2 * time.Minute

// The vendor's image.
const (
	app    = "vendor/app"
	stable = "stable"
)

// story prints what happens, and compares it with what should happen. Its methods do nothing
// once something was not as it should be.
type story struct {
	*stages
	*narrate.Narrator
	meddle func(step int, s *story) // called before each step; may be nil

	versions []upstreamtest.Image // indexes, by version, of which the first is 1
	sent     int64                // bytes of blobs that the vendor has sent
	err      error                // what was not as it should be; nil if all was
}

// tell runs the steps of the story up to the first that fails.
func (s *story) tell(ctx context.Context) error {
	steps := []struct {
		title string
		tell  func(context.Context)
	}{
		{"Four stages, and two gates between them", s.setting},
		{"The first pull is refused, and fetches the image into quarantine", s.intake},
		{"Development gets what the scanner has found clean", s.development},
		{"The first pull promotes: from development to test, and then to production", s.promotion},
		{"The vendor is broken into, and pushes a bad image", s.badImage},
		{"What no gate guards: a pull by digest", s.byDigest},
		{"A good image again: production has the former one until its time", s.goodAgain},
		{"The audit trail", s.audit},
	}
	for i, step := range steps {
		s.Title(i+1, step.title)
		if s.meddle != nil {
			s.meddle(i+1, s)
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		step.tell(ctx)
		cancel()
		if s.err != nil {
			return fmt.Errorf("step %d: %w", i+1, s.err)
		}
	}
	s.Blank()
	s.Print(`What to try next
   gates.go: return nil in intoDev           step 2 fails, since nothing is refused
   gates.go: objections = 3 * time.Second    steps 4 and 7 take longer
   stages.go: no MaxHops for the quarantine  step 4 fails, since it is the fourth cache
go run ./examples/hubspoke has three levels of caches without gates.

Everything was as the story says.`)
	return nil
}

// fail ends the story. A nil err ends nothing.
func (s *story) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// check ends the story unless ok.
func (s *story) check(ok bool, format string, args ...any) {
	s.fail(narrate.Check(ok, format, args...))
}

// version is the digest of a version.
func (s *story) version(n int) digest.Digest { return s.versions[n-1].Digest }

// setting shows the stages.
func (s *story) setting(context.Context) {
	s.Print(`
   vendor ── quarantine ──[clean?]── dev ── test ──[in test? no objections?]── prod
`)
	for _, stage := range []struct{ name, address string }{
		{"vendor", s.vendor.Host()}, {"quarantine", s.quarantine.Address}, {"dev", s.dev.Address}, {"test", s.test.Address}, {"prod", s.prod.Address},
	} {
		s.Line(stage.name, "http://%s", stage.address)
	}
	s.Line("", "Each stage is a cache with one rule: everything comes from the stage on its left. Clients pull at dev, "+
		"test and prod; the lines below say what they get, with its Cache-Status.")
	s.Line("", "The scanner is a stand-in: it unpacks every layer of what comes into quarantine, and finds one marker. "+
		"The time for objections is %v, where it would be a day.", objections)
	s.publish("version 1", stable)
}
