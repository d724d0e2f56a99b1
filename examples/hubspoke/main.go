// Command hubspoke shows three levels of caches: a hub in front of the registry with the
// golden images, regional caches in front of the hub, and leaves in front of the regions,
// from which the nodes of a cluster pull.
//
//	go run ./examples/hubspoke
//
// It needs no network: every cache is an HTTP server of its own on loopback, with a store of
// its own in a temporary folder, and a registry on loopback has the images. The registry and
// the caches counted every figure that the program prints. If one of them is not as expected,
// the program ends with status 1.
package main

import (
	"context"
	"errors"
	"io"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/internal/narrate"
)

func main() { narrate.Main("hubspoke", run) }

// run sets the stage up and tells the story. It leaves nothing behind.
func run(ctx context.Context, out io.Writer) error { return perform(ctx, out, nil, nil) }

// perform is run with a function that may change the caches, and one that is called before
// each step. Tests use them to show that the story fails if something is not as expected.
func perform(ctx context.Context, out io.Writer, change func(name string, c *cache.Cache), meddle func(step int, s *story)) (err error) {
	st := &stage{}
	defer func() { err = errors.Join(err, st.close()) }()
	if err := st.open(change); err != nil {
		return err
	}
	s := &story{stage: st, Narrator: &narrate.Narrator{Out: out}, meddle: meddle}
	return s.tell(ctx)
}
