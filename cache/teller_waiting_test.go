package cache_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// inCrewWithOutbox runs a story with caches whose outboxes have one receiver, once for each
// way in which they take events.
func inCrewWithOutbox(t *testing.T, members int, story func(w *crew)) {
	t.Helper()
	for _, apart := range []bool{false, true} {
		t.Run(fmt.Sprintf("apart %v", apart), func(t *testing.T) {
			inCrew(t, members, story, func(w *crew) { w.outbox, w.hook, w.apart = true, webhooktest.NewHandler(), apart })
		})
	}
}

// waiting lets cache 0 copy an image that all were asked for, while the receiver is down.
func (w *crew) waiting() upstreamtest.Image {
	w.Helper()
	w.hook.Stop()
	img := w.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 20 * time.Millisecond}) // so that all have given it before
	for _, m := range w.member {
		m.pull("v1")
	}
	w.pass(20 * time.Minute)
	if t, err := w.far.Tag(w.Context(), "app/api", "v1"); err != nil || t.Digest != img.Digest {
		w.Fatalf("%v, %v", t, err)
	}
	for n, m := range w.member {
		want := 1
		if n == 0 {
			want = 0
		}
		if all := m.cache.Copies(); len(all) != want || want == 1 && (all[0].State != cache.CopySubmitted || all[0].Elsewhere != cache.JobSending) {
			w.Fatalf("cache %d: %v", n, all)
		}
	}
	return img
}

// delivered checks that the receiver got each event that often, and under one ID.
func (w *crew) delivered(img upstreamtest.Image, times int) {
	w.Helper()
	got, ids := map[string]int{}, map[string]bool{}
	for _, d := range w.hook.Deliveries() {
		if d.Taken {
			got[d.Event.Action+" "+d.Event.Target.Tag]++
			ids[d.Event.ID] = true
		}
	}
	if len(got) != 2 || got["push v1"] != times || got["push "] != times || len(ids) != 2 {
		w.Errorf("delivered %v with %d IDs, want each %d times", got, len(ids), times)
	}
	if times == 1 {
		for _, text := range w.hook.Complaints() {
			w.Error(text)
		}
	}
}

// A cache that is lost with its disk, after its outbox took the events of a copy and before
// it delivered them, has its witnesses, whose outboxes deliver them.
func TestOutboxIsLostWithItsOwner(t *testing.T) {
	for _, back := range []string{"at once", "late", "never"} {
		t.Run(back, func(t *testing.T) {
			inCrewWithOutbox(t, 3, func(w *crew) {
				img := w.waiting()
				w.member[0].kill()
				if back == "at once" {
					w.member[0].start(false)
				}
				w.answer()
				w.pass(time.Minute)
				w.took(0) // it may come back with its disk
				w.pass(9 * time.Minute)
				if back == "late" {
					w.member[0].start(false)
				}
				w.settled()
				w.delivered(img, 1)
			})
		})
	}
}

// delivered2 checks how many deliveries were taken in all.
func (w *crew) took(n int) {
	w.Helper()
	if got := len(w.hook.Events()); got != n {
		w.Errorf("%d events were delivered, want %d", got, n)
	}
}

// One that comes back with its disk delivers the events itself, and no other cache does,
// unless it was away for so long that it was taken for lost.
func TestOutboxComesBackWithItsOwner(t *testing.T) {
	for _, c := range []struct {
		away  time.Duration
		times int
	}{{0, 1}, {90 * time.Second, 1}, {time.Hour, 2}} {
		t.Run(c.away.String(), func(t *testing.T) {
			inCrewWithOutbox(t, 3, func(w *crew) {
				img := w.waiting()
				w.member[0].kill()
				w.pass(c.away / 2)
				w.answer()
				w.pass(c.away / 2)
				w.member[0].start(true)
				w.pass(20 * time.Minute)
				w.settled()
				w.delivered(img, c.times)
			})
		})
	}
}

// A witness that restarts with its records still sees to the events; one that waits for the
// copy alone does not wait for them.
func TestWitnessOfEventsRestarts(t *testing.T) {
	inCrewWithOutbox(t, 3, func(w *crew) {
		img := w.waiting()
		w.wantElsewhere(1, cache.JobSending)
		for _, m := range w.member[1:] {
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			if err := m.cache.Idle(ctx); err != nil {
				w.Errorf("cache %d is not idle: %v", m.n, err)
			}
			if err := m.cache.Prefetch(ctx, "app/api", "v1", cache.PrefetchOptions{}); err != nil {
				w.Errorf("cache %d waits: %v", m.n, err)
			}
			cancel()
			m.stop()
			m.start(true)
		}
		w.pass(time.Minute)
		w.member[0].kill()
		w.answer()
		w.pass(10 * time.Minute)
		w.settled()
		w.delivered(img, 1)
	})
}

// Events that are not delivered hold up no copy: not that of an index whose image has them,
// nor any other, however few jobs a witness may have.
func TestEventsThatWaitHoldUpNothing(t *testing.T) {
	inCrewWithOutbox(t, 3, func(w *crew) {
		w.hook.Stop()
		multi := w.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(1, 1000), "amd64", "arm64")
		amd := multi.Children[0]
		w.owner = func(job cache.Job) int {
			if job.Digest == amd.Digest {
				return 1
			}
			return 0
		}
		w.member[2].stop()
		w.member[2].limits.MaxJobs = 3
		w.member[2].start(false)
		w.member[2].pull("v1", amd.Digest.String())
		w.member[2].pullBlob(amd.Layers[0].Digest)
		w.pass(time.Minute)
		if _, err := w.far.Tag(w.Context(), "app/api", "v1"); err != nil {
			w.Errorf("the index waits for the events of its image: %v", err)
		}
		for n := range 10 {
			tag := fmt.Sprint("t", n)
			w.up.AddImage("team/api", tag, upstreamtest.Layers(1, 2000+n))
			w.member[2].pull(tag)
			w.pass(time.Minute)
			if _, err := w.far.Tag(w.Context(), "app/api", tag); err != nil {
				w.Errorf("%s: %v", tag, err)
			}
		}
		if n := len(w.member[2].cache.Copies()); n == 0 || n > 3 {
			w.Errorf("the witness has %d jobs", n)
		}
		if n := w.member[2].cache.Stats().JobsDropped; n != 0 {
			w.Errorf("%d jobs were dropped", n)
		}
		w.answer()
		w.pass(time.Hour)
		w.settled()
	})
}

// A receiver that stays down costs few questions, and its events are given up by all at
// once.
func TestReceiverIsDownForLong(t *testing.T) {
	inCrewWithOutbox(t, 2, func(w *crew) {
		w.waiting()
		before := w.member[1].questions()
		w.pass(20 * time.Hour)
		if n := w.member[1].questions() - before; n == 0 || n > 20*30 {
			w.Errorf("%d questions in 20 hours", n)
		}
		if n := len(w.member[1].cache.Copies()); n != 1 {
			w.Errorf("%d jobs", n)
		}
		w.pass(10 * time.Hour)
		w.settled()
		w.took(0)
	})
}

// questions is how often Track was called.
func (m *member) questions() int { m.mu.Lock(); defer m.mu.Unlock(); return m.asked }

// answer lets the receiver answer again.
func (w *crew) answer() {
	w.Helper()
	if err := w.hook.Restart(); err != nil {
		w.Fatal(err)
	}
}
