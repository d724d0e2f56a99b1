package ledger_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/upstream"
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
		if run.Owe(w.Context(), nil); len(run.TagsLeft()) != 1 || run.Manifest.Digest != image(2).Digest {
			w.Errorf("%+v", run)
		}
		run.End(nil)
	})
}

func TestWatchedImageBegins(t *testing.T) {
	for _, asked := range []string{"another layer", "its layer", "its config", "its config and others", "a tag"} {
		t.Run(asked, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.addJob(image(1), ledger.Job{OnDemand: true})
				w.want(image(1), ledger.Watching, 0)
				ask := func(d digest.Digest) {
					w.ledger.Asked(repo, d, func() bool { return false })
					synctest.Wait()
				}
				switch asked {
				case "another layer":
					ask(layer(2))
					w.pass(time.Hour)
					w.want(image(1), ledger.Watching, 0)
					return
				case "its layer":
					ask(layer(1))
				case "its config", "its config and others":
					w.alone = asked == "its config"
					ask(digest.FromString("config1"))
					w.pass(59 * time.Second)
					w.want(image(1), ledger.Watching, 0)
					w.pass(2 * time.Second)
					if !w.alone {
						w.want(image(1), ledger.Watching, 0)
						w.pass(25 * time.Hour)
						w.want(image(1), "", 0)
						return
					}
				case "a tag":
					w.add(image(1), "v1")
				}
				w.want(image(1), "", 1)
			})
		})
	}
}

// An image all of whose layers are here is copied at once, and one that runs already
// does not run twice when the time after its config is over.
func TestWatchedImageRunsOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		h, err := w.ledger.Add(w.Context(), image(1), ledger.Job{Repository: repo, Source: source, OnDemand: true}, func(bool) ledger.Facts { return ledger.Facts{} })
		if err != nil {
			w.Fatal(err)
		}
		if err := h.Wait(w.Context(), false); err != nil {
			w.Fatal(err)
		}
		w.alone, w.gateAlone = true, make(chan struct{})
		w.addJob(image(2), ledger.Job{OnDemand: true})
		w.ledger.Asked(repo, digest.FromString("config2"), func() bool { return false })
		w.pass(time.Minute)
		release := w.hold()
		w.ledger.Asked(repo, layer(2), func() bool { return false })
		synctest.Wait()
		close(w.gateAlone)
		synctest.Wait()
		w.want(image(2), ledger.Running, 2)
		release()
		w.want(image(2), "", 2)
		// With nothing watched a blob costs no look at what is stored.
		w.ledger.Asked(repo, layer(2), func() bool { w.Error("the store was asked"); return false })
	})
}

// A manifest that a shorter way leads to is copied with what refers to it.
func TestShorterWay(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), errHost)
		for _, depth := range []int{2, 1, 3} {
			w.addJob(image(1), ledger.Job{Depth: depth})
		}
		if d := w.ledger.Copies("")[0].Job.Depth; d != 1 {
			w.Errorf("depth %d", d)
		}
	})
}

// Of two watched images with one layer in common, the layer says nothing until a client
// has asked for all layers of one of them.
func TestSharedLayer(t *testing.T) {
	inBubble(t, func(w *world) {
		a := content(image(1).MediaType, `{"layers":[{"digest":"`+layer(1).String()+`","size":1},{"digest":"`+layer(2).String()+`","size":1}]}`)
		b := content(image(1).MediaType, `{"layers":[{"digest":"`+layer(1).String()+`","size":1},{"digest":"`+layer(3).String()+`","size":1}]}`)
		w.addJob(a, ledger.Job{OnDemand: true})
		w.addJob(b, ledger.Job{OnDemand: true})
		w.ledger.Asked(repo, layer(1), func() bool { return false })
		synctest.Wait()
		w.want(a, ledger.Watching, 0)
		w.ledger.Asked(repo, layer(2), func() bool { return true })
		synctest.Wait()
		w.want(a, "", 1)
		w.want(b, ledger.Watching, 1)
	})
}

func TestNobodyComes(t *testing.T) {
	inBubble(t, func(w *world) {
		w.addJob(image(1), ledger.Job{OnDemand: true})
		w.add(index(image(2)), "v1")
		w.pass(23 * time.Hour)
		w.want(image(1), ledger.Watching, 1)
		w.want(index(image(2)), ledger.Waiting, 1)
		w.pass(2 * time.Hour)
		w.want(image(1), "", 1)
		w.want(index(image(2)), "", 1)
	})
}

// An index waits on while one of its images is being copied, however long that takes.
func TestIndexWaitsForASlowImage(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), errHost)
		w.add(index(image(1)), "v1")
		w.add(image(1))
		w.pass(100 * time.Hour)
		if s := w.state(index(image(1))); s != ledger.Waiting {
			w.Fatal(s)
		}
		w.comesTo(image(1), nil)
		w.pass(5 * time.Minute)
		w.wantMoved("v1")
	})
}

// A further request for more platforms lets a waiting index look again.
func TestMorePlatforms(t *testing.T) {
	inBubble(t, func(w *world) {
		one := index(image(1))
		w.add(one)
		w.add(one)
		w.want(one, ledger.Waiting, 1)
		w.addJob(one, ledger.Job{Platforms: []string{oci.AllPlatforms}})
		w.want(one, ledger.Waiting, 2)
		release := w.hold()
		w.addJob(one, ledger.Job{Platforms: []string{oci.AllPlatforms}}, "v2") // changed: it runs
		two := index(image(2))
		w.add(two)
		w.addJob(two, ledger.Job{Platforms: []string{oci.AllPlatforms}}) // while it runs
		release()
		w.want(two, ledger.Waiting, 5)
	})
}

func TestAnotherSource(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), errHost)
		h := w.add(image(1), "v1")
		other := upstream.Source{Rule: "other", Host: "other.example.com", Repository: "x"}
		ended := make(chan error, 1)
		go func() { ended <- h.Wait(w.Context(), false) }()
		synctest.Wait()
		w.comesTo(image(1), nil)
		w.addJob(image(1), ledger.Job{Source: other}, "v2")
		if err := <-ended; !errors.Is(err, ledger.ErrForgotten) {
			w.Error(err)
		}
		w.want(image(1), "", 2)
		w.wantMoved("v2")
	})
}
