package ledger_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
)

// eachState runs a story once for each state, with a copy job of image(1), or of
// index(image(1)) for Waiting, that is in this state and whose tag is v1.
func eachState(t *testing.T, story func(w *world, state ledger.State)) {
	for _, state := range []ledger.State{ledger.Queued, ledger.Running, ledger.Submitted, ledger.Waiting, ledger.Watching, ledger.Paused, ledger.Parked} {
		t.Run(string(state), func(t *testing.T) {
			inBubble(t, func(w *world) {
				switch state {
				case ledger.Queued, ledger.Running:
					w.hold()
					if state == ledger.Queued {
						w.add(image(7))
						w.add(image(8))
					}
					w.add(image(1), "v1")
				case ledger.Submitted:
					w.comesTo(image(1), ledger.ErrHandedOver)
					w.add(image(1), "v1")
				case ledger.Waiting:
					w.add(index(image(1)), "v1")
				case ledger.Watching:
					w.addJob(image(1), ledger.Job{OnDemand: true}, "v1")
				case ledger.Paused:
					w.comesTo(image(1), errHost)
					w.add(image(1), "v1")
				case ledger.Parked:
					w.comesTo(image(1), errOwn)
					w.add(image(1), "v1")
					w.pass(10 * time.Minute)
				}
				m := image(1)
				if state == ledger.Waiting {
					m = index(image(1))
				}
				if got := w.state(m); got != state {
					w.Fatalf("state %q, want %q", got, state)
				}
				w.gate = nil
				w.runs = nil
				story(w, state)
			})
		})
	}
}

// A process that starts goes on with the jobs of the former one, with their IDs.
func TestRestart(t *testing.T) {
	eachState(t, func(w *world, state ledger.State) {
		id := ""
		for _, c := range w.ledger.Copies("") {
			if c.Job.About("v1") {
				id = c.Job.ID
			}
		}
		w.comesTo(image(1), nil)
		w.restart()
		switch state {
		case ledger.Watching:
			w.want(image(1), state, 0)
			w.ledger.Asked(repo, layer(1), false)
		case ledger.Waiting:
			w.want(index(image(1)), state, 1)
			w.add(image(1))
		case ledger.Paused:
			w.want(image(1), state, 0)
			w.pass(2 * time.Minute)
		case ledger.Parked:
			w.want(image(1), state, 0)
			w.pass(24 * time.Hour)
			w.want(image(1), state, 0)
			if n, err := w.ledger.Retry(w.Context(), func(j ledger.Job) bool { return j.About("v1") }); n != 1 || err != nil {
				w.Fatal(n, err)
			}
		}
		synctest.Wait()
		w.wantMoved("v1")
		if n := w.ledger.Len(); n != 0 || !strings.HasPrefix(w.moved[0], id+" ") {
			w.Errorf("%d are left; %v of job %s", n, w.moved, id)
		}
		w.wantRecords()
	})
}

// A job whose rule is gone at the start is given up, whatever its state was.
func TestRestartWithoutTheRule(t *testing.T) {
	eachState(t, func(w *world, state ledger.State) {
		m := image(1)
		if state == ledger.Waiting {
			m = index(image(1))
		}
		w.comesTo(image(1), errGone)
		w.comesTo(m, errGone)
		w.restart()
		w.pass(time.Hour)
		switch state {
		case ledger.Watching, ledger.Parked: // they do not run by themselves
			w.want(m, state, 0)
		default:
			if s := w.state(m); s != "" {
				w.Errorf("state %q", s)
			}
		}
		w.pass(9 * 24 * time.Hour)
		if n := w.ledger.Len(); n != 0 {
			w.Errorf("%d are left", n)
		}
		w.wantRecords()
	})
}

// What is deleted is not copied, whatever the state of its job is.
func TestForgetDigest(t *testing.T) {
	eachState(t, func(w *world, state ledger.State) {
		m := image(1)
		if state == ledger.Waiting {
			m = index(image(1))
		}
		h := w.ledger.Pending(key(m))
		ended := make(chan error, 1)
		go func() { ended <- h.Wait(w.Context(), false) }()
		synctest.Wait()
		w.ledger.Forget(repo, m.Digest.String())
		synctest.Wait()
		if err := <-ended; !errors.Is(err, ledger.ErrForgotten) {
			w.Error(err)
		}
		if s := w.state(m); s != "" {
			w.Errorf("state %q", s)
		}
		w.wantRecords()
		w.restart()
		if s := w.state(m); s != "" {
			w.Errorf("state %q after a restart", s)
		}
	})
}

// A tag that is deleted does not move, whatever the state of the job is; the rest of the
// job goes on.
func TestForgetTag(t *testing.T) {
	eachState(t, func(w *world, state ledger.State) {
		w.ledger.Forget(repo, "v1")
		w.ledger.Forget(repo, "v9")
		synctest.Wait()
		for _, c := range w.ledger.Copies(repo) {
			if c.Job.About("v1") {
				w.Errorf("%+v", c.Job.Tags)
			}
		}
		w.wantRecords()
	})
}

// Indexes that wait for what was given up look again.
func TestForgetAnImageOfAnIndex(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), errHost)
		w.add(image(1))
		w.add(index(image(1)))
		w.want(index(image(1)), ledger.Waiting, 2)
		w.ledger.Forget(repo, image(1).Digest.String())
		synctest.Wait()
		w.want(index(image(1)), ledger.Waiting, 3)
		w.pass(25 * time.Hour)
		w.want(index(image(1)), "", 3)
	})
}

// shift writes the records with their times moved, as by a process with another clock.
func (w *world) shift(d time.Duration) {
	w.ledger.Close()
	for k := range w.store.RecordKeys(w.Context(), "jobs") {
		data, err := w.store.Record(w.Context(), "jobs", k)
		var job ledger.Job
		if err != nil || json.Unmarshal(data, &job) != nil {
			w.Fatal(err)
		}
		job.Created = job.Created.Add(d)
		if !job.Next.IsZero() {
			job.Next = job.Next.Add(d)
		}
		data, _ = json.Marshal(job)
		if err := w.store.PutRecord(w.Context(), "jobs", k, data); err != nil {
			w.Fatal(err)
		}
	}
	w.start()
}

// A clock that was wrong when a job was written neither holds the job for years nor lets
// it be forgotten before it was tried.
func TestClockForthAndBack(t *testing.T) {
	for _, d := range []time.Duration{10 * 365 * 24 * time.Hour, -10 * 365 * 24 * time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			eachState(t, func(w *world, state ledger.State) {
				w.comesTo(image(1), nil)
				w.shift(d)
				switch state {
				case ledger.Watching, ledger.Waiting, ledger.Parked:
					w.pass(59 * time.Second) // even one from long ago is there for a minute
					if w.ledger.Len() == 0 {
						w.Error("it was given up at once")
					}
					w.add(image(1))
					w.pass(20 * time.Minute)
					w.add(image(1))
				}
				w.pass(26 * time.Hour)
				w.wantMoved("v1")
				w.wantRecords()
			})
		})
	}
}

// A job of the future is given up when its time is over by the clock of today.
func TestFutureJobIsGivenUp(t *testing.T) {
	inBubble(t, func(w *world) {
		w.addJob(image(1), ledger.Job{OnDemand: true})
		w.add(index(image(2)), "v1")
		w.shift(10 * 365 * 24 * time.Hour)
		w.pass(25 * time.Hour)
		if n := w.ledger.Len(); n != 0 {
			w.Errorf("%d are left", n)
		}
	})
}

// Another request for a job whose record is being written waits for that too.
func TestRecordedBySomebodyElse(t *testing.T) {
	inBubble(t, func(w *world) {
		w.cfg.Records = &broken{Mem: w.store, slowPut: 10 * time.Second}
		w.restart()
		defer w.hold()()
		begun := time.Now()
		for range 2 {
			h, err := w.ledger.Add(w.Context(), nil, image(1), ledger.Job{Repository: repo, Source: source}, w.facts(image(1)))
			if err != nil {
				w.Fatal(err)
			}
			w.pass(time.Second)
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			defer cancel()
			if h.Recorded(ctx); ctx.Err() == nil {
				w.Errorf("recorded after %s", time.Since(begun))
			}
		}
		w.pass(time.Minute)
		w.wantRecords()
	})
}

// What is owed is in the record before anything shows it, also for a tag that moves by
// another request than the job began with.
func TestOwed(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), ledger.ErrHandedOver)
		job := ledger.Job{Tags: []ledger.Tag{{Name: "v1", Seen: time.Now()}, {Name: "v2", Seen: time.Now()}}}
		w.addJob(image(1), job)
		run := w.ledger.Elsewhere(w.ledger.Copies("")[0].Job)
		w.owe(w.Context(), run, ledger.Tag{Name: "v2"})
		w.wantDue("v2")
		v2 := run.TagsLeft()[1]
		run.Moved(v2)
		w.pass(time.Minute)
		w.addJob(image(1), ledger.Job{Tags: []ledger.Tag{{Name: "v2", Seen: time.Now()}}})
		left := run.TagsLeft()
		if len(left) != 2 || left[1].Name != "v2" || left[1].EventDue {
			w.Errorf("the event of v2 was sent and is due again: %+v", left)
		}
		run.End(nil)
		w.pass(0)
		w.wantDue()
	})
}

// wantDue checks which events the records say are due.
func (w *world) wantDue(tags ...string) {
	w.Helper()
	var due []string
	for k := range w.store.RecordKeys(w.Context(), "jobs") {
		data, err := w.store.Record(w.Context(), "jobs", k)
		var job ledger.Job
		if err != nil || json.Unmarshal(data, &job) != nil {
			w.Fatal(err)
		}
		for _, t := range job.Tags {
			if t.EventDue {
				due = append(due, t.Name)
			}
		}
	}
	if !slices.Equal(due, tags) {
		w.Errorf("the records say that the events of %v are due, want %v", due, tags)
	}
}
