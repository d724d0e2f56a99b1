package ledger_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
)

// tracker is a worker that gives every job away and is told what became of each.
type tracker struct {
	*world
	fate    map[string]ledger.Fate // by name
	err     error                  // the holder of the jobs does not answer
	looks   int
	waiting bool         // indexes wait for an image
	seen    []ledger.Job // the jobs that were done, as they were then
	id      string       // under which the holder has a job; empty if that is not known
	during  func()       // if not nil, it is called while a job is done
}

func (k *tracker) Do(_ context.Context, r *ledger.Run) error {
	k.mu.Lock()
	during := k.during
	k.mu.Unlock()
	if during != nil {
		during()
	}
	if r.Job.Here {
		r.GiveBack()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.waiting && r.Manifest.Parsed.Index {
		return ledger.ErrWaiting
	}
	if k.seen = append(k.seen, r.Job); len(k.seen) > 1 && k.fate[name(r.Job)] == ledger.Lost {
		k.fate[name(r.Job)] = ledger.Sending // its new holder did it at once
	}
	return ledger.ErrHandedOver
}

func (k *tracker) Look(_ context.Context, r *ledger.Run) (ledger.Fate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looks++
	for _, t := range r.Job.Tags {
		r.Moved(t)
	}
	r.Known(k.id)
	return k.fate[name(r.Job)], k.err
}

// is says what becomes of an image, and whether that can be found out.
func (k *tracker) is(n int, f ledger.Fate, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fate[name(ledger.Job{Digest: image(n).Digest})], k.err = f, err
}

// wait says whether indexes wait for an image.
func (k *tracker) wait(so bool) { k.mu.Lock(); defer k.mu.Unlock(); k.waiting = so }

// done returns the jobs that were given away.
func (k *tracker) done() []ledger.Job { k.mu.Lock(); defer k.mu.Unlock(); return slices.Clone(k.seen) }

func (k *tracker) looked() int { k.mu.Lock(); defer k.mu.Unlock(); return k.looks }

// untilLook lets time pass until the next look.
func (k *tracker) untilLook() {
	k.Helper()
	before := k.looked()
	k.until(func() bool { return k.looked() > before })
}

// tracked runs a story of jobs that somebody else has.
func tracked(t *testing.T, story func(k *tracker), setup ...func(*world)) {
	t.Helper()
	k := &tracker{fate: map[string]ledger.Fate{}}
	inBubble(t, func(w *world) { story(k) }, append(setup, func(w *world) {
		k.world, w.cfg.Worker, w.cfg.Tracked = w, k, true
	})...)
}

var errAway = errors.New("it does not answer")

// A job whose events wait elsewhere is done for all that wait for it, and it is watched, ever more
// seldom, until they are delivered.
func TestSending(t *testing.T) {
	tracked(t, func(k *tracker) {
		k.is(1, ledger.Sending, nil)
		h := k.add(image(1), "v1")
		ended := make(chan error, 1)
		go func() { ended <- h.Wait(k.Context(), false) }()
		k.pass(time.Minute)
		select {
		case err := <-ended:
			if err != nil {
				k.Error(err)
			}
		default:
			k.Fatal("who waited for the job still waits")
		}
		if err := h.Wait(k.Context(), true); err != nil {
			k.Error(err)
		}
		if err := k.ledger.Pending(key(image(1))).Wait(k.Context(), true); err != nil {
			k.Error(err)
		}
		if err := k.ledger.Idle(k.Context()); err != nil {
			k.Error(err)
		}
		if k.ledger.Coming(key(image(1))) || k.ledger.Find(key(image(1)), source) != nil {
			k.Error("it is taken for one that is being copied")
		}
		before := k.looked()
		k.pass(24 * time.Hour)
		if n := k.looked() - before; n < 24*60/4 || n > 24*60/2 {
			k.Errorf("%d looks in a day", n)
		}
		k.is(1, ledger.Finished, nil)
		k.pass(3 * time.Minute)
		k.want(image(1), "", 0)
	})
}

// An index that waits for an image goes on when that is done, whatever its events do.
func TestIndexOfAnImageThatIsSending(t *testing.T) {
	tracked(t, func(k *tracker) {
		k.add(image(1))
		k.wait(true)
		k.add(index(image(1)), "v1")
		k.want(index(image(1)), ledger.Waiting, 0)
		k.wait(false)
		k.is(1, ledger.Sending, nil)
		k.pass(time.Minute)
		k.want(index(image(1)), ledger.Submitted, 0)
	})
}

// The holder of the events of a job has two minutes to come back. Then the job is handed over
// again, with its events.
func TestSendingIsLost(t *testing.T) {
	for _, c := range []struct {
		name    string
		away    time.Duration
		fate    ledger.Fate // while it is away
		unknown bool        // nobody knows, all the time
		again   bool        // the job is handed over again
	}{
		{"for a minute", 119 * time.Second, ledger.Lost, false, false},
		{"for long", 10 * time.Minute, ledger.Lost, false, true},
		{"and nobody knows", 10 * time.Minute, ledger.Pending, true, false},
		{"and goes on", 10 * time.Minute, ledger.Pending, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tracked(t, func(k *tracker) {
				k.is(1, ledger.Sending, nil)
				k.addJob(image(1), ledger.Job{Incomplete: true}, "v1")
				k.pass(20 * time.Minute)
				var err error
				if c.unknown {
					err = errAway
				}
				k.is(1, c.fate, err)
				k.untilLook()
				before := k.looked()
				k.pass(c.away)
				if n := k.looked() - before; c.unknown && n > 60 {
					k.Errorf("%d looks in %v", n, c.away)
				}
				seen := k.done()
				if again := len(seen) == 2; again != c.again || len(seen) > 2 {
					k.Fatalf("it was handed over %d times", len(seen))
				}
				if c.again {
					j := seen[1]
					if j.ID != seen[0].ID || !j.Owed || !j.Incomplete || len(j.Tags) != 1 || !j.Tags[0].EventDue {
						k.Errorf("without its events: %+v", j)
					}
				}
				k.is(1, ledger.Sending, nil)
				k.pass(10 * time.Minute)
				k.is(1, ledger.Lost, nil) // once more, and briefly
				k.untilLook()
				k.is(1, ledger.Sending, nil)
				if n := len(k.done()); n != len(seen) {
					k.Errorf("it was handed over %d times", n)
				}
				k.pass(10 * time.Minute)
				k.is(1, ledger.Finished, nil)
				k.pass(10 * time.Minute)
				k.want(image(1), "", 0)
			})
		})
	}
}

// What has waited for a week is not watched any more, and neither is what was deleted.
func TestSendingEnds(t *testing.T) {
	tracked(t, func(k *tracker) {
		k.is(1, ledger.Sending, nil)
		k.is(2, ledger.Sending, nil)
		k.add(image(1), "v1")
		k.add(image(2), "v2")
		k.pass(6 * 24 * time.Hour)
		k.want(image(1), ledger.Submitted, 0)
		k.is(2, ledger.Deleted, nil)
		k.pass(3 * time.Minute)
		k.want(image(2), "", 0)
		k.pass(25 * time.Hour)
		k.want(image(1), "", 0)
		k.wantRecords()
	})
}

// What is Sending makes room before anything else does, that of the largest rule first; a
// further tag makes it a job like others again.
func TestRoomOfWhatIsSending(t *testing.T) {
	tracked(t, func(k *tracker) {
		for n := range 4 {
			k.is(n, ledger.Sending, nil)
		}
		k.addJob(image(0), ofRule("modest"))
		k.pass(time.Second)
		for n := 1; n <= 3; n++ {
			k.addJob(image(n), ofRule("greedy"))
			k.pass(time.Second)
		}
		k.pass(time.Minute)
		k.is(2, ledger.Pending, nil)
		k.addJob(image(2), ofRule("greedy"), "v1")
		for i, gone := range []int{1, 3, 0} {
			k.addJob(image(10+i), ofRule("other"))
			if s := k.state(image(gone)); s != "" || k.ledger.Len() != 4 {
				k.Errorf("%d: %s, %d jobs", gone, s, k.ledger.Len())
			}
		}
		k.want(image(2), ledger.Submitted, 0)
		if _, dropped := k.ledger.Counts(); dropped != 0 {
			k.Errorf("%d dropped", dropped)
		}
		k.wantRecords()
	}, func(w *world) { w.cfg.Most = 4 })
}
