package flight

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// fronts returns where the checkpoints were.
func (s *shelf) fronts() (fronts []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.checkpoints {
		fronts = append(fronts, p.Front)
	}
	return fronts
}

// What a process that is killed loses is a small part of what has come, with no more
// questions to the rule than the full checkpoints ask.
func TestEarlyCheckpointsAreASmallPartApart(t *testing.T) {
	const (
		size  = 56 << 20
		grain = 64 << 10 // the reads of paced
	)
	for name, known := range map[string]int64{"size known": size, "size unknown": -1} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, size)
				r.size = known
				r.up.each = func(n int, off int64) fault {
					f := paced(n, off)
					f.noSize, f.noLength = known < 0, known < 0
					return f
				}
				r.want()
				r.wantStored(true)
				last, full := int64(0), int64(0)
				for _, front := range r.shelf.fronts() {
					apart, early := front-last, max(512<<10, front/64)
					switch {
					case front-full >= 8<<20:
						full = front
					case apart < early:
						t.Errorf("a checkpoint at %d after one at %d", front, last)
					case known > 0 && size-front < early:
						t.Errorf("a checkpoint at %d, and the end is near", front)
					}
					if apart > early+grain && front < size {
						t.Errorf("no checkpoint between %d and %d", last, front)
					}
					last = front
				}
				if full != size {
					t.Errorf("the last full checkpoint was at %d", full)
				}
				if want := 1 + size/(8<<20); r.up.opens != want {
					t.Errorf("the rule was asked %d times, want %d", r.up.opens, want)
				}
			})
		})
	}
}

// The full checkpoints are where they are whatever others do.
func TestFullCheckpointsNeedNoTurn(t *testing.T) {
	const size = 40 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = paced
		r.g.early.take() // and it is not given back
		r.want()
		r.wantStored(true)
		if got, want := r.shelf.fronts(), []int64{8 << 20, 16 << 20, 24 << 20, 32 << 20, 40 << 20}; !slices.Equal(got, want) {
			t.Errorf("checkpoints at %v, want %v", got, want)
		}
	})
}

func TestFastDownloadsHaveFullCheckpointsAlone(t *testing.T) {
	const size = 40 << 20
	for name, c := range map[string]struct {
		pause time.Duration // for each 256 KiB
		early bool
	}{
		"160 MiB/s": {1562500 * time.Nanosecond, false},
		"100 MiB/s": {2500 * time.Microsecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, size)
				r.up.latency = 200 * time.Millisecond // before the first byte
				r.up.each = func(int, int64) fault { return fault{step: 256 << 10, pause: c.pause} }
				r.want()
				r.wantStored(true)
				if got := r.shelf.fronts(); len(got) > 5 != c.early {
					t.Errorf("checkpoints at %v", got)
				}
			})
		})
	}
}

// What is about to be committed needs no checkpoint.
func TestSmallBlobsHaveNoCheckpoint(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20-1)
		r.up.each = paced
		r.want()
		r.wantStored(true)
		if got := r.shelf.fronts(); len(got) != 0 {
			t.Errorf("checkpoints at %v", got)
		}
	})
}

// However many downloads run, the disk syncs early as often as for one of them, and slow
// disks less often.
func TestEarlyCheckpointsOfAllDownloadsAreBounded(t *testing.T) {
	const size, downloads = 6 << 20, 30
	for name, c := range map[string]struct{ takes, apart time.Duration }{
		"fast disk": {0, 15 * time.Millisecond},
		"slow disk": {60 * time.Millisecond, 120 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, size)
				r.g.Downloads, r.g.PerHost = downloads, downloads
				r.up.each = paced
				var mu sync.Mutex
				var begun []time.Time
				note := func() {
					mu.Lock()
					begun = append(begun, time.Now())
					mu.Unlock()
					time.Sleep(c.takes)
				}
				began := time.Now()
				var all sync.WaitGroup
				for i := range downloads {
					shelf := &shelf{t: t, beforeCheckpoint: note}
					req := r.request()
					req.Source.Repository, req.Spool = fmt.Sprint("a/", i), shelf.spool
					h, err := r.g.Join(client(), req)
					if err != nil {
						t.Fatal(err)
					}
					all.Go(func() {
						defer h.Close()
						if err := h.Wait(client()); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				took := time.Since(began)
				for i := 1; i < len(begun); i++ {
					if d := begun[i].Sub(begun[i-1]); d < c.apart {
						t.Fatalf("two checkpoints begin within %v", d)
					}
				}
				if n := len(begun); n < int(took/c.apart)/2 {
					t.Errorf("%d checkpoints in %v: turns were lost", n, took)
				}
			})
		})
	}
}

// A store without checkpoints keeps no turn.
func TestTurnComesBackWithoutACheckpoint(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 4<<20)
		r.up.each = paced
		r.shelf.plain = true
		r.want()
		r.idle()
		r.shelf.plain = false
		r.want()
		r.wantStored(true)
		if got := r.shelf.fronts(); len(got) == 0 {
			t.Error("no checkpoint")
		}
	})
}

// What a former process has vouched for counts as a full checkpoint.
func TestResumedDownloadCountsFromItsCheckpoint(t *testing.T) {
	const size, had = 24 << 20, 3 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.leave(had, size)
		r.up.each = paced
		r.want()
		r.wantStored(true)
		if first := r.shelf.fronts()[0]; first < had+512<<10 {
			t.Errorf("the first checkpoint was at %d", first)
		}
		if want := 1 + (size-had)/(8<<20); r.up.opens != want {
			t.Errorf("the rule was asked %d times, want %d", r.up.opens, want)
		}
	})
}

// A rule that is slow to say that it is there holds up no checkpoint.
func TestSlowRuleHoldsUpNoCheckpoint(t *testing.T) {
	const size = 20 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = paced
		r.up.gone = func() error { time.Sleep(time.Second); return nil }
		r.want()
		r.wantStored(true)
		last := int64(0)
		for _, front := range r.shelf.fronts() {
			if front-last > 1<<20 {
				t.Errorf("no checkpoint between %d and %d", last, front)
			}
			last = front
		}
	})
}
