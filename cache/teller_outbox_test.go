package cache_test

import (
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func withOutbox(w *crew) { w.outbox = true }

// Events that go through an outbox are sent once while no cache dies.
func TestOneCacheSendsForAllByAnOutbox(t *testing.T) {
	for _, pullers := range [][]int{{0, 1, 2}, {1, 2}, {2}, {0}, {2, 0}} {
		inCrew(t, 3, func(w *crew) {
			img := w.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
			for _, n := range pullers {
				w.member[n].pull("v1")
			}
			w.settled()
			for _, m := range w.member {
				m.pull("v1", img.Digest.String())
			}
			w.settled()
			w.want(2, once(img))
		}, withOutbox)
	}
}

// When the cache that copies dies, each event of an outbox is sent nevertheless, with one ID.
// It is sent more than once at most if that cache had kept it, and so its witness sends it,
// too, or if that cache had just delivered it.
func TestOwnerWithAnOutboxIsLost(t *testing.T) {
	for step, most := range map[string]int{
		"accept": 1, "put jobs": 1, "accepted": 1, "create": 1, "manifest": 1, "put outbox": 1,
		"tag": 2, "tagged": 2, "event": 2, "event sent": 3, "delete outbox": 3, "put told": 3, "delete jobs": 3,
	} {
		for _, back := range []string{"at once", "late", "at once with nothing", "late with nothing", "never"} {
			t.Run(step+" "+back, func(t *testing.T) {
				inCrew(t, 3, func(w *crew) {
					img := w.dies(death{step: step})
					if back[0] != 'a' {
						w.pass(time.Minute)
					}
					if back != "never" {
						w.member[0].stop()
						w.member[0].start(back == "at once" || back == "late")
					}
					w.settled()
					w.mu.Lock()
					defer w.mu.Unlock()
					for what := range once(img) {
						if n := w.events[what]; n < 1 || n > most {
							t.Errorf("%s: sent %d times", what, n)
						}
					}
					if len(w.events) != 2 || len(w.ids) != 2 {
						t.Errorf("events %v with %d IDs", w.events, len(w.ids))
					}
				}, withOutbox)
			})
		}
	}
}
