package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// patience is how long a step of the story may take, on a busy machine too.
const patience = 2 * time.Minute

// The golden image.
const (
	golden = "golden/base"
	tag    = "24.04"
)

// story prints what happens, and compares it with what should happen.
type story struct {
	*stage
	*narrate.Narrator
	meddle func(step int, s *story) // called before each step; may be nil

	image upstreamtest.Image // to which the tag points at the registry
}

// tell runs the steps of the story up to the first that fails.
func (s *story) tell(ctx context.Context) error {
	steps := []struct {
		title string
		tell  func(context.Context) error
	}{
		{"Three levels of caches", s.setting},
		{"The golden image is pulled at two leaves at the same time", s.firstPulls},
		{"The second pull is local at each level", s.secondPull},
		{"The tag moves, and the move travels down", s.tagMoves},
		{"A loop is refused", s.loop},
		{"A fourth level is refused", s.fourthLevel},
	}
	for i, step := range steps {
		s.Title(i+1, step.title)
		if s.meddle != nil {
			s.meddle(i+1, s)
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		err := step.tell(ctx)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	s.Blank()
	s.Print(`What to try next: a further field of the cache.Cache in stage.go
   MaxHops: 4               step 6 fails, since the fourth level gets its image
   Freshness: time.Minute   step 3 fails, since no level asks again whether the tag has moved
go run ./examples/quarantine has stages that an image may pass when somebody has looked at it.

All figures were counted, and are what they should be.`)
	return nil
}

// publish pushes a version of the golden image to the registry: three layers, of which only
// the last differs between versions.
func (s *story) publish(version int) {
	layers := [][]byte{upstreamtest.Layer(1, 4<<20), upstreamtest.Layer(2, 2<<20), upstreamtest.Layer(3, 1<<20+version)}
	s.image = s.registry.AddMultiPlatform(golden, tag, layers, "amd64", "arm64")
}

// setting shows the levels.
func (s *story) setting(context.Context) error {
	s.publish(1)
	s.Print(`
   registry ── hub ─┬─ east ── leaf-east
                    └─ west ── leaf-west
`)
	s.Line("registry", "%s/%s:%s for linux/amd64 and linux/arm64", s.registry.Host(), golden, tag)
	s.Line("hub", "http://%s; its rule: golden/* comes from the registry", s.hub.Address)
	s.Line("east, west", "http://%s and http://%s; everything comes from the hub", s.east.Address, s.west.Address)
	s.Line("leaves", "http://%s and http://%s; everything comes from the region", s.leafEast.Address, s.leafWest.Address)
	s.Line("", "Tables count the requests that each of them answered, and the blobs it sent.")
	return nil
}
