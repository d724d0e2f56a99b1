package ledger_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/upstream"
)

func TestWatchedImageBegins(t *testing.T) {
	for _, asked := range []string{"another layer", "its layer", "its config", "its config and others", "a tag"} {
		t.Run(asked, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.addJob(image(1), ledger.Job{OnDemand: true})
				w.want(image(1), ledger.Watching, 0)
				ask := func(d digest.Digest) {
					w.ledger.Asked(repo, d, false)
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
		h, err := w.ledger.Add(w.Context(), nil, image(1), ledger.Job{Repository: repo, Source: source, OnDemand: true}, func(bool) ledger.Facts { return ledger.Facts{} })
		if err != nil {
			w.Fatal(err)
		}
		if err := h.Wait(w.Context(), false); err != nil {
			w.Fatal(err)
		}
		w.alone, w.gateAlone = true, make(chan struct{})
		w.addJob(image(2), ledger.Job{OnDemand: true})
		w.ledger.Asked(repo, digest.FromString("config2"), false)
		w.pass(time.Minute)
		release := w.hold()
		w.ledger.Asked(repo, layer(2), false)
		synctest.Wait()
		close(w.gateAlone)
		synctest.Wait()
		w.want(image(2), ledger.Running, 2)
		release()
		w.want(image(2), "", 2)
		if w.ledger.Watches() { // or a blob would cost a look at what is stored
			w.Error("nothing is watched")
		}
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
		w.ledger.Asked(repo, layer(1), false)
		synctest.Wait()
		w.want(a, ledger.Watching, 0)
		w.ledger.Asked(repo, layer(2), true)
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
