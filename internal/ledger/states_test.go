package ledger_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
)

// Each test here is an arrow, or several, of the diagram in the package comment.

func TestDone(t *testing.T) {
	inBubble(t, func(w *world) {
		h := w.add(image(1), "v1")
		w.want(image(1), "", 1)
		w.wantMoved("v1")
		if err := h.Wait(w.Context(), false); err != nil {
			w.Error(err)
		}
	})
}

func TestIndexWaitsForAnImage(t *testing.T) {
	inBubble(t, func(w *world) {
		both := index(image(1), image(2))
		w.add(both, "v1")
		w.want(both, ledger.Waiting, 1)
		w.add(image(1))
		w.want(both, "", 3)
		w.wantMoved("v1")
	})
}

// An index whose image comes has its turn before others of its rule.
func TestIndexGoesFirst(t *testing.T) {
	inBubble(t, func(w *world) {
		one := index(image(1))
		w.add(one, "v1")
		release := w.hold()
		w.add(image(1))
		w.add(image(2))
		w.want(image(2), ledger.Queued, 2)
		release()
		if order := strings.Join(w.runs[2:], " "); order != one.Digest.Encoded()[:6]+" "+image(2).Digest.Encoded()[:6] {
			w.Errorf("runs %v", w.runs)
		}
	}, func(w *world) { w.cfg.AtOnce = 1 })
}

// An image that is stored while its index is on its way to wait.
func TestImageStoredAtTheLastMoment(t *testing.T) {
	inBubble(t, func(w *world) {
		one := index(image(1))
		gate := w.hold()
		w.add(one, "v1")
		w.add(image(1))
		w.want(image(1), ledger.Running, 2)
		gate()
		w.pass(time.Second)
		if n := w.ledger.Len(); n != 0 {
			w.Errorf("%d copy jobs are left: %v", n, w.ledger.Copies(""))
		}
	})
}

// An image that fails for good while its index is on its way to wait for it.
func TestImageParkedAtTheLastMoment(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), errOwn)
		w.add(image(1))
		w.until(func() bool { return w.ran() == 2 })
		release := w.hold()
		w.until(func() bool { return w.ran() == 3 }) // the image's last try
		w.add(index(image(1)))
		w.want(image(1), ledger.Running, 4)
		release()
		w.want(image(1), ledger.Parked, 5) // the index looked again
		w.want(index(image(1)), ledger.Waiting, 5)
	})
}

func TestTagThatComesWhileTheCopyRuns(t *testing.T) {
	inBubble(t, func(w *world) {
		release := w.hold()
		w.add(image(1), "v1")
		w.add(image(1), "v2")
		w.want(image(1), ledger.Running, 1)
		release()
		w.want(image(1), "", 1)
		w.wantMoved("v1", "v2")
	})
}

// late is a worker whose last look at the tags is over when a tag comes.
type late struct {
	*world
	reached, release chan struct{}
}

func (l *late) Do(ctx context.Context, r *ledger.Run) error {
	err := l.world.Do(ctx, r)
	if l.reached != nil {
		close(l.reached)
		<-l.release
		l.reached = nil
	}
	return err
}

// A tag that comes after the worker's last look moves too, with an event of its own.
func TestTagThatComesAtTheLastMoment(t *testing.T) {
	l := &late{reached: make(chan struct{}), release: make(chan struct{})}
	inBubble(t, func(w *world) {
		w.add(image(1), "v1")
		w.addJob(image(1), ledger.Job{}, "v2")
		close(l.release)
		w.pass(time.Second)
		w.want(image(1), "", 2)
		w.wantMoved("v1", "v2")
		if a, b := w.moved[0], w.moved[1]; strings.Fields(a)[0] == strings.Fields(b)[0] {
			w.Errorf("both events have the ID %s", strings.Fields(a)[0])
		}
	}, func(w *world) {
		l.world, w.cfg.Worker = w, l
		l.reached, l.release = make(chan struct{}), make(chan struct{})
	})
}

func TestOwnFailuresPark(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), errOwn)
		h := w.add(image(1), "v1")
		w.want(image(1), ledger.Paused, 1)
		if err := h.Wait(w.Context(), false); err == nil { // the next failure
			w.Error("no failure")
		}
		w.pass(5 * time.Minute)
		w.want(image(1), ledger.Parked, 3)
		if len(w.parked) != 1 || w.parked[0].Job.Attempts != 3 || !errors.Is(w.parked[0].Err, errOwn) {
			w.Errorf("%+v", w.parked)
		}
		w.add(image(1), "v1") // too soon
		w.want(image(1), ledger.Parked, 3)
		w.pass(15 * time.Minute)
		w.add(image(1), "v1")
		w.want(image(1), ledger.Parked, 4)
		if err := w.ledger.Pending(key(image(1))).Wait(w.Context(), true); !errors.Is(err, errOwn) {
			w.Error(err)
		}
		w.want(image(1), ledger.Parked, 5)
		w.comesTo(image(1), nil)
		if n, err := w.ledger.Retry(w.Context(), func(ledger.Job) bool { return true }); n != 1 || err != nil {
			w.Fatal(n, err)
		}
		synctest.Wait()
		w.want(image(1), "", 6)
		w.wantMoved("v1")
	})
}

func TestParkedForLong(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), errOwn)
		w.add(image(1))
		w.pass(time.Hour)
		w.pass(6 * 24 * time.Hour)
		w.want(image(1), ledger.Parked, 3)
		w.pass(25 * time.Hour)
		w.want(image(1), "", 3)
	})
}

func TestFailuresOfOthersDoNotPark(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), errHost)
		w.add(image(1), "v1")
		w.pass(24 * time.Hour)
		if s := w.state(image(1)); s != ledger.Paused || w.ledger.Copies("")[0].Job.Attempts != 0 {
			w.Errorf("%s, %+v", s, w.ledger.Copies("")[0].Job)
		}
		failed, _ := w.ledger.Counts()
		if n := int64(len(w.runs)); failed != n || n < 24*60*4/5 || n > 24*60+1 {
			w.Errorf("%d runs, %d failed", n, failed)
		}
	})
}

func TestGivenUp(t *testing.T) {
	inBubble(t, func(w *world) {
		release := w.hold()
		w.comesTo(image(1), errGone)
		h := w.add(image(1))
		ended := make(chan error, 1)
		go func() { ended <- h.Wait(w.Context(), false) }()
		synctest.Wait()
		release()
		w.want(image(1), "", 1)
		if err := <-ended; !errors.Is(err, errGone) {
			w.Error(err)
		}
	})
}

func TestHandedOver(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), ledger.ErrHandedOver)
		w.add(image(1), "v1")
		w.add(index(image(1)), "v2")
		w.want(image(1), ledger.Submitted, 2)
		w.pass(9 * time.Minute)
		w.want(image(1), ledger.Submitted, 2)
		w.pass(2 * time.Minute) // it takes too long and is handed over again
		w.want(image(1), ledger.Submitted, 3)
		w.put(key(image(1)))
		w.pass(20 * time.Second)
		w.want(image(1), "", 4)
		w.want(index(image(1)), "", 4)
		w.wantMoved("v1", "v2")
	})
}

// A job that somebody else does in this process tells the ledger how it went.
func TestElsewhere(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), ledger.ErrHandedOver)
		w.add(image(1), "v1")
		run := w.ledger.Elsewhere(w.ledger.Copies("")[0].Job)
		run.End(errHost)
		synctest.Wait()
		w.want(image(1), ledger.Paused, 1)
		w.pass(2 * time.Minute)
		w.want(image(1), ledger.Submitted, 2)
		run = w.ledger.Elsewhere(w.ledger.Copies("")[0].Job)
		for _, tag := range run.TagsLeft() {
			run.Moved(tag)
		}
		run.End(nil)
		synctest.Wait()
		w.want(image(1), "", 2)
		// And one that the ledger knows nothing of.
		run = w.ledger.Elsewhere(ledger.Job{Repository: repo, Digest: image(2).Digest, MediaType: image(2).MediaType, Manifest: image(2).Body, Tags: []ledger.Tag{{Name: "v3"}}})
		if run.Hold(w.Context()) != nil || len(run.TagsLeft()) != 1 || run.Manifest.Digest != image(2).Digest {
			w.Errorf("%+v", run)
		}
		run.End(nil)
	})
}
