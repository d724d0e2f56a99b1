// Command quarantine shows how images from elsewhere get to production by pulls alone: they
// are fetched into quarantine and scanned, a gate lets them into development, the first pull
// brings them to test, and one more gate holds them before production. Each stage is a cache
// whose rule names the stage before it, and the events of all stages are the audit trail.
//
//	go run ./examples/quarantine
//
// It needs no network: every stage is an HTTP server of its own on loopback, with a store of
// its own in a temporary folder, and a registry on loopback is the vendor's. The scanner is a
// stand-in, which unpacks every layer and looks for one marker; everything else is real. If
// something is not as the story says, the program ends with status 1.
package main

import (
	"context"
	"errors"
	"io"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/internal/narrate"
)

func main() { narrate.Main("quarantine", run) }

// run sets the stage up and tells the story. It leaves nothing behind.
func run(ctx context.Context, out io.Writer) error { return perform(ctx, out, nil, nil) }

// perform is run with a function that may change the caches, and one that is called before
// each step. Tests use them to show that the story fails if something is not as expected.
func perform(ctx context.Context, out io.Writer, change func(name string, c *cache.Cache), meddle func(step int, s *story)) (err error) {
	st := &stages{}
	defer func() { err = errors.Join(err, st.close()) }()
	if err := st.open(change); err != nil {
		return err
	}
	s := &story{stages: st, Narrator: &narrate.Narrator{Out: out}, meddle: meddle}
	return s.tell(ctx)
}
