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

// story prints what happens, and compares it with what should happen.
type story struct {
	*stage
	*narrate.Narrator

	images map[string]upstreamtest.Image // by repository
}

// tell runs the steps of the story up to the first that fails.
func (s *story) tell(ctx context.Context) error {
	steps := []struct {
		title string
		tell  func(context.Context) error
	}{
		{"Three replicas, one object store, one slow registry", s.setting},
		{"An image that nobody has is pulled at all three at once", s.cold},
		{"It is pulled again", s.warm},
		{"The replica that fetches a layer is lost in the middle", s.killed},
		{"A replica with an empty disk is added", s.added},
		{"The registry is gone", s.registryGone},
		{"The object store is gone too", s.objectsGone},
	}
	for i, step := range steps {
		s.Title(i+1, step.title)
		ctx, cancel := context.WithTimeout(ctx, patience)
		err := step.tell(ctx)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	s.Blank()
	s.Print(`What to try next, in replica.go:
   leave Upstream without r.fleet.Opener   step 2 fails: each replica fetches for itself
   leave Copier out                        step 2 fails: each replica sends events of its own
GUIDE.md of the library has what a fleet needs, and what its clients see when something breaks.

All figures were counted, and are what they should be.`)
	return nil
}

// publish pushes an image with a layer of some size to the registry.
func (s *story) publish(repository string, seed uint64, size int) {
	if s.images == nil {
		s.images = map[string]upstreamtest.Image{}
	}
	s.images[repository] = s.registry.AddMultiPlatform(repository, "v1", [][]byte{upstreamtest.Layer(seed, 64<<10), upstreamtest.Layer(seed+1, size)}, "amd64")
}

// image is the image of the one platform that a repository has.
func (s *story) image(repository string) upstreamtest.Image { return s.images[repository].Children[0] }

// bytes returns how many bytes of blobs the image of a repository has.
func (s *story) bytes(repository string) int64 {
	img := s.image(repository)
	n := img.Config.Size
	for _, l := range img.Layers {
		n += l.Size
	}
	return n
}

// setting shows the replicas.
func (s *story) setting(context.Context) error {
	s.publish("team/app", 1, 24<<20)
	s.publish("team/model", 3, 32<<20)
	s.Print(`
   clients ─┬─ replica-1 (disk) ─┐         ┌─ registry
            ├─ replica-2 (disk) ─┼─ one of ┤
            └─ replica-3 (disk) ─┘  them   └─ object store
`)
	s.Line("registry", "%s sends %s per second in all", s.registry.Host(), narrate.Size(pace))
	for _, r := range s.replicas {
		s.Line(r.name, "%s for clients, http://%s for replicas", r.client.Base, r.fleet.Self)
	}
	s.Line("objects", "%s, an S3 server; the copies lie there, and what each replica serves on its disk", s.objects.url)
	return nil
}
