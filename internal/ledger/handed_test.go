package ledger_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
)

// only is the one job of the ledger.
func (k *tracker) only() ledger.Copy {
	k.Helper()
	all := k.ledger.Copies("")
	if len(all) != 1 {
		k.Fatalf("%d jobs", len(all))
	}
	return all[0]
}

// holds says under which ID the holder has jobs.
func (k *tracker) holds(id string) { k.mu.Lock(); defer k.mu.Unlock(); k.id = id }

// meanwhile says what happens while a job is done.
func (k *tracker) meanwhile(f func()) { k.mu.Lock(); defer k.mu.Unlock(); k.during = f }

// That a job was handed over, and the ID that it has at its holder, are in its record.
func TestHandedOverIsRecorded(t *testing.T) {
	for _, fate := range []ledger.Fate{ledger.Pending, ledger.Stuck, ledger.Sending} {
		tracked(t, func(k *tracker) {
			k.is(1, fate, nil)
			k.add(image(1), "v1")
			k.holds("THEIRS")
			k.pass(time.Minute)
			if c := k.only(); c.Job.ID != "THEIRS" || c.State != ledger.Submitted || c.Fate != fate {
				k.Errorf("%+v", c)
			}
			k.restart()
			k.pass(0)
			if c := k.only(); c.Job.ID != "THEIRS" || c.State != ledger.Submitted || len(k.done()) != 1 {
				k.Errorf("after a restart, %+v, which was done %d times", c, len(k.done()))
			}
		})
	}
}

// So is that alone.
func TestHandedOverWithoutAnID(t *testing.T) {
	tracked(t, func(k *tracker) {
		k.add(image(1), "v1")
		k.pass(time.Minute)
		k.restart()
		k.pass(time.Minute)
		if n := len(k.done()); n != 1 {
			k.Errorf("it was handed over %d times", n)
		}
	})
}

// A job that was handed over is this ledger's again if it comes back meanwhile, and is handed over
// again if more is asked of it meanwhile.
func TestMoreIsAskedWhileItIsHandedOver(t *testing.T) {
	for name, job := range map[string]ledger.Job{
		"it comes back": {Here: true},
		"a tag":         {Tags: []ledger.Tag{{Name: "v2", Seen: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)}}},
		"platforms":     {Platforms: []string{"linux/amd64"}},
		"nothing":       {},
	} {
		t.Run(name, func(t *testing.T) {
			tracked(t, func(k *tracker) {
				k.meanwhile(func() {
					k.meanwhile(nil)
					job.Repository, job.Source = repo, source
					if _, err := k.ledger.Add(k.Context(), nil, image(1), job, k.facts(image(1))); err != nil {
						k.Error(err)
					}
				})
				k.add(image(1), "v1")
				k.pass(time.Second)
				want := 2
				if name == "nothing" {
					want = 1
				}
				if n := len(k.done()); n != want {
					k.Errorf("it was done %d times", n)
				}
			})
		})
	}
}

// A holder that cannot be asked is asked again every second.
func TestHolderIsSilent(t *testing.T) {
	tracked(t, func(k *tracker) {
		k.is(1, ledger.Pending, errAway)
		k.add(image(1), "v1")
		k.pass(10 * time.Second)
		if n := k.looked(); n < 8 || n > 11 {
			k.Errorf("%d looks in 10 seconds", n)
		}
	})
}

// A job that was Sending and goes on is being copied again, and one that was Stuck and is handed
// over again is not Stuck before its holder says so.
func TestFateIsTheLastOne(t *testing.T) {
	tracked(t, func(k *tracker) {
		k.is(1, ledger.Sending, nil)
		k.add(image(1), "v1")
		k.pass(time.Minute)
		k.is(1, ledger.Pending, nil)
		k.pass(10 * time.Minute)
		if c := k.only(); c.Fate != ledger.Pending || !k.ledger.Coming(key(image(1))) {
			k.Errorf("%+v", c)
		}
		k.is(1, ledger.Stuck, nil)
		k.pass(time.Minute)
		if c := k.only(); c.Fate != ledger.Stuck {
			k.Errorf("%+v", c)
		}
		if n, err := k.ledger.Retry(k.Context(), func(ledger.Job) bool { return true }); err != nil || n != 1 {
			k.Errorf("%d, %v", n, err)
		}
		synctest.Wait()
		if c := k.only(); c.State != ledger.Submitted || c.Fate != ledger.Pending {
			k.Errorf("%+v", c)
		}
		k.pass(time.Minute)
		k.is(1, ledger.Sending, nil)
		k.pass(time.Minute)
		if n, err := k.ledger.Retry(k.Context(), func(ledger.Job) bool { return true }); err != nil || n != 0 {
			k.Errorf("%d that are done are tried again, %v", n, err)
		}
	})
}

// A job that is lost after a week is given up, and an index that waits for it looks again.
func TestLostAfterAWeek(t *testing.T) {
	tracked(t, func(k *tracker) {
		k.add(image(1))
		k.wait(true)
		k.add(index(image(1)), "v1")
		k.pass(8 * 24 * time.Hour)
		k.want(index(image(1)), ledger.Waiting, 0)
		k.wait(false)
		k.is(1, ledger.Lost, nil)
		k.pass(time.Minute)
		k.want(image(1), "", 0)
		k.want(index(image(1)), ledger.Submitted, 0)
		if n := len(k.done()); n != 2 {
			k.Errorf("%d jobs were handed over", n)
		}
	})
}

// A ledger has a job if it is to do it itself, and not if it gives it to somebody else.
func TestMine(t *testing.T) {
	tracked(t, func(k *tracker) {
		mine := func(want bool) {
			k.Helper()
			if id, _, ok := k.ledger.Mine(key(image(1)), source); ok != want || ok != (id != "") {
				k.Errorf("mine: %q, %v", id, ok)
			}
		}
		mine(false)
		k.meanwhile(func() { mine(false) })
		k.add(image(1), "v1")
		k.pass(time.Second)
		mine(false)
		k.meanwhile(func() { mine(false) }) // it may be that the former holder still has it
		k.addJob(image(1), ledger.Job{Here: true})
		k.pass(time.Second)
	})
	inBubble(t, func(w *world) {
		defer w.hold()()
		w.addJob(image(1), ledger.Job{Here: true})
		if id, _, ok := w.ledger.Mine(key(image(1)), source); !ok || id == "" {
			w.Errorf("it is not mine: %q", id)
		}
	})
}
