package ledger_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/upstream"
)

func ofRule(name string) ledger.Job {
	return ledger.Job{Source: upstream.Source{Rule: name, Host: "registry.example.com", Repository: name}}
}

// What is parked makes room first, then what is only watched, then the newest job of the
// rule that has most, which is never the rule of the newcomer alone.
func TestRoom(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), errOwn)
		w.add(image(1))
		w.pass(time.Hour)
		w.addJob(image(2), ledger.Job{OnDemand: true})
		for n := 3; n <= 4; n++ {
			w.comesTo(image(n), errHost)
			w.add(image(n))
		}
		w.pass(time.Second)
		w.add(index(image(5)))
		if s := w.state(image(1)); s != "" {
			w.Errorf("the parked one is %s", s)
		}
		w.pass(time.Second)
		w.add(index(image(6)))
		if s := w.state(image(2)); s != "" {
			w.Errorf("the watched one is %s", s)
		}
		job := ledger.Job{Repository: repo, Source: source}
		if _, err := w.ledger.Add(w.Context(), nil, image(7), job, w.facts(image(7))); !errors.Is(err, ledger.ErrTooMany) {
			w.Error(err)
		}
		w.addJob(index(image(8)), ofRule("other"))
		if s := w.state(index(image(6))); s != "" {
			w.Errorf("the newest of the largest rule is %s", s)
		}
		if _, dropped := w.ledger.Counts(); dropped != 1 || w.ledger.Len() != 4 {
			w.Errorf("%d dropped, %d known", dropped, w.ledger.Len())
		}
		w.wantRecords()
	}, func(w *world) { w.cfg.Most = 4 })
}

// The rule whose manifests take most makes room, however few they are.
func TestRoomOfLargeManifests(t *testing.T) {
	large := content(image(1).MediaType, `{"annotations":{"a":"`+strings.Repeat("x", 100<<10)+`"}}`)
	inBubble(t, func(w *world) {
		w.comesTo(large, errHost)
		w.addJob(large, ofRule("large"))
		for n := range 3 {
			w.comesTo(image(n), errHost)
			w.addJob(image(n), ofRule("small"))
		}
		w.comesTo(image(9), errHost)
		w.addJob(image(9), ofRule("other"))
		if s := w.state(large); s != "" || w.ledger.Len() != 4 {
			w.Errorf("the large one is %q of %d", s, w.ledger.Len())
		}
	}, func(w *world) { w.cfg.Most = 4 })
}

func TestRoomForBytes(t *testing.T) {
	inBubble(t, func(w *world) {
		for n := range 10 {
			w.comesTo(image(n), errHost)
			_, _ = w.ledger.Add(w.Context(), nil, image(n), ledger.Job{Repository: repo, Source: source}, w.facts(image(n)))
		}
		synctest.Wait()
		if n := w.ledger.Len(); n != 2 {
			w.Errorf("%d jobs in the memory of two", n)
		}
		w.pass(0)
		if n := strings.Count(w.logs.String(), "too many copy jobs are known"); n != 1 {
			w.Errorf("the log says it %d times", n)
		}
	}, func(w *world) { w.cfg.Memory = 2*image(1).Cost() + 100 })
}

// A rule that is not alone leaves a quarter of the slots to others.
func TestLentSlots(t *testing.T) {
	inBubble(t, func(w *world) {
		w.addJob(index(image(50)), ofRule("modest")) // it waits, and is there
		release := w.hold()
		for n := range 8 {
			w.addJob(image(n), ofRule("greedy"))
		}
		w.want(image(3), ledger.Queued, 4)
		w.addJob(image(100), ofRule("modest"))
		w.want(image(100), ledger.Running, 5)
		release()
		if n := w.ledger.Len(); n != 1 {
			w.Errorf("%d are left", n)
		}
	}, func(w *world) { w.cfg.AtOnce = 4 })
}

// watcher is a worker that looks at each run before it is done.
type watcher struct {
	*world
	look func(*ledger.Run)
}

func (v watcher) Do(ctx context.Context, r *ledger.Run) error {
	v.look(r)
	return v.world.Do(ctx, r)
}

func TestContended(t *testing.T) {
	var contended []bool
	inBubble(t, func(w *world) {
		w.add(image(1))
		w.add(image(2))
		w.pass(time.Minute)
		if len(contended) != 2 || !contended[0] || contended[1] {
			w.Errorf("contended: %v", contended)
		}
	}, func(w *world) {
		w.cfg.AtOnce = 1
		w.cfg.Worker = watcher{w, func(r *ledger.Run) {
			time.Sleep(time.Second)
			contended = append(contended, r.Contended())
		}}
	})
}

// Of failures of a full store the first line in the log says it all.
func TestFullStoreIsSaidOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), errFull)
		w.add(image(1))
		w.pass(time.Hour)
		if n := strings.Count(w.logs.String(), "level=ERROR"); n != 1 || strings.Contains(w.logs.String(), "level=WARN") {
			w.Errorf("%d errors: %s", n, w.logs.String())
		}
	})
}
