package ledger_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
)

// wanting is a worker that waits until its job is not wanted any more.
type wanting struct {
	*world
	causes chan error
}

func (w wanting) Do(ctx context.Context, r *ledger.Run) error {
	wanted, stop := r.Wanted(ctx)
	defer stop()
	<-wanted.Done()
	w.causes <- context.Cause(wanted)
	return context.Cause(wanted)
}

// Work for a job ends when the job is given up, and when the ledger is closed.
func TestWanted(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(w *world)
		want error // nil if the job is still wanted
	}{
		"its manifest is deleted":   {func(w *world) { w.ledger.Forget(repo, image(1).Digest.String()) }, ledger.ErrForgotten},
		"its repository is deleted": {func(w *world) { w.ledger.ForgetRepository(repo) }, ledger.ErrForgotten},
		"the ledger is closed":      {func(w *world) { w.ledger.Close() }, errClosed},
		"a tag of it is deleted":    {func(w *world) { w.ledger.Forget(repo, "v1") }, nil},
		"another manifest is":       {func(w *world) { w.ledger.Forget(repo, image(2).Digest.String()) }, nil},
		"another repository is":     {func(w *world) { w.ledger.ForgetRepository("app/other") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			causes := make(chan error, 1)
			inBubble(t, func(w *world) {
				w.add(image(1), "v1", "v2")
				w.pass(time.Second)
				c.act(w)
				w.pass(time.Second)
				select {
				case err := <-causes:
					if !errors.Is(err, c.want) || c.want == nil {
						w.Errorf("it ended: %v, want %v", err, c.want)
					}
				default:
					if c.want != nil {
						w.Error("it goes on")
					}
				}
			}, func(w *world) { w.cfg.Worker = wanting{w, causes} })
		})
	}
}
