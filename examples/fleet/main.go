// Command fleet shows three replicas of a cache that act as one: each layer is fetched from
// the registry once, by one of them, and the clients of all get it while it comes; what is
// complete lies in an object store that they share, and on each one's own disk.
//
//	go run .
//
// It needs no network: the replicas are servers on loopback, each with a disk of its own in a
// temporary folder, and a slow registry and an S3 server are in the same process. All figures
// that the program prints were counted. If one of them is not as expected, the program ends
// with status 1.
package main

import (
	"context"
	"errors"
	"io"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
)

func main() { narrate.Main("fleet", run) }

// run sets the stage up and tells the story. It leaves nothing behind.
func run(ctx context.Context, out io.Writer) error { return perform(ctx, out, nil) }

// perform is run with a function that may change a replica before it is used. Tests use it to
// show that the story fails if something is not as expected.
func perform(ctx context.Context, out io.Writer, change func(*replica)) (err error) {
	st := &stage{change: change}
	defer func() { err = errors.Join(err, st.close()) }()
	if err := st.open(ctx); err != nil {
		return err
	}
	s := &story{stage: st, Narrator: &narrate.Narrator{Out: out}}
	return s.tell(ctx)
}
