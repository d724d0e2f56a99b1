package ask

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// upstream answers each question after some time, and counts.
type upstream struct {
	Group[string, time.Time]
	t     *testing.T
	takes time.Duration
	terms Terms

	mu        sync.Mutex
	asked     int
	now, most int
}

// look asks and returns how long that took. It complains about an answer that is older
// than the terms allow.
func (u *upstream) look() time.Duration {
	came := time.Now()
	seen, err := u.Ask(u.t.Context(), "k", u.terms, func(_ context.Context, begin func()) time.Time {
		u.count(1)
		defer u.count(-1)
		begin()
		seen := time.Now()
		time.Sleep(u.takes)
		return seen
	})
	if err != nil {
		u.t.Error(err)
	}
	if age := came.Sub(seen); age > u.terms.Age {
		u.t.Errorf("an answer is %v older than its question, want %v at most", age, u.terms.Age)
	}
	return time.Since(came)
}

func (u *upstream) count(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked += max(n, 0)
	u.now += n
	u.most = max(u.most, u.now)
}

// crowd lets clients look again and again, and returns how long each look took, sorted.
func (u *upstream) crowd(clients, times int, wait func(client, time int) time.Duration) (took []time.Duration) {
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := range times {
				time.Sleep(wait(c, i))
				d := u.look()
				u.mu.Lock()
				took = append(took, d)
				u.mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took
}

// TestCrowdFarAway: 64 clients of an upstream that is 40 ms away.
func TestCrowdFarAway(t *testing.T) {
	const trip = 40 * time.Millisecond
	never := func(int, int) time.Duration { return 0 }
	for name, c := range map[string]struct {
		wait               func(client, time int) time.Duration
		times              int
		half, worst        time.Duration // beyond a trip
		questions, perTrip int
	}{
		"at once":           {never, 1, time.Millisecond, time.Millisecond, 2, 2},
		"again and again":   {never, 50, time.Millisecond, time.Millisecond, 200, 4},
		"one after another": {func(c, _ int) time.Duration { return time.Duration(c) * 625 * time.Microsecond }, 1, 16 * time.Millisecond, 19 * time.Millisecond, 5, 4},
		"with pauses": {func(c, i int) time.Duration { return time.Duration(c*7919+i*104729) % 200 * time.Millisecond }, 50,
			6 * time.Millisecond, 17 * time.Millisecond, 1000, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &upstream{t: t, takes: trip, terms: Terms{AtOnce: 4}}
				begun := time.Now()
				took := u.crowd(64, c.times, c.wait)
				half, worst, trips := took[len(took)/2]-trip, took[len(took)-1]-trip, int((time.Since(begun)+trip-1)/trip)
				t.Logf("a trip and %v, at worst %v; %d questions in %d trips, %d at once", half, worst, u.asked, trips, u.most)
				if half > c.half || worst > c.worst {
					t.Errorf("half of the clients wait for a trip and %v, want %v; the last for %v more, want %v", half, c.half, worst, c.worst)
				}
				if u.asked > c.questions || u.most > c.perTrip || u.asked > trips*c.perTrip {
					t.Errorf("%d questions in %d trips, %d at once, want %d and %d at most", u.asked, trips, u.most, c.questions, c.perTrip)
				}
			})
		})
	}
}

// TestCrowdNearby: an upstream that answers at once is asked one question at a time.
func TestCrowdNearby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{t: t, takes: 500 * time.Microsecond, terms: Terms{AtOnce: 4}}
		u.crowd(64, 50, func(c, i int) time.Duration { return time.Duration(c*i%7) * 100 * time.Microsecond })
		if u.most != 1 {
			t.Errorf("%d questions at once, want one", u.most)
		}
	})
}

// TestUpstreamThatHangs: however many clients come, only so many questions hang.
func TestUpstreamThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{t: t, takes: time.Hour, terms: Terms{AtOnce: 4}}
		u.crowd(1000, 1, func(c, _ int) time.Duration { return time.Duration(c) * time.Second })
		if u.most != 4 || u.asked > 5 {
			t.Errorf("%d questions, %d at once, want 5 and 4", u.asked, u.most)
		}
	})
}

// TestAge: a caller joins a call that has begun, if that is no longer ago than it allows.
func TestAge(t *testing.T) {
	for age, want := range map[time.Duration]int{0: 2, 30 * time.Millisecond: 2, 50 * time.Millisecond: 1} {
		synctest.Test(t, func(t *testing.T) {
			u := &upstream{t: t, takes: 100 * time.Millisecond, terms: Terms{Age: age}}
			u.crowd(2, 1, func(c, _ int) time.Duration { return time.Duration(c) * 40 * time.Millisecond })
			if u.asked != want {
				t.Errorf("age %v: %d questions, want %d", age, u.asked, want)
			}
		})
	}
}

// TestTurn: whoever comes while a call waits for its turn to look joins it; nobody joins
// one that all have left.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		asked := 0
		slow := func(wanted context.Context, begin func()) int {
			asked++
			n := asked
			select {
			case <-time.After(time.Second):
			case <-wanted.Done():
				time.Sleep(time.Millisecond)
				return -1
			}
			begin()
			time.Sleep(time.Second)
			return n
		}
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 400 * time.Millisecond)
				if n, err := g.Ask(t.Context(), "k", Terms{}, slow); n != 1 || err != nil {
					t.Errorf("caller %d: call %d, %v, want the first", i, n, err)
				}
			})
		}
		all.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, _ = g.Ask(ctx, "k", Terms{}, slow)
		if n, err := g.Ask(t.Context(), "k", Terms{}, slow); n != 3 || err != nil {
			t.Errorf("call %d, %v, want a new one", n, err)
		}
		if asked != 3 || len(g.series) != 0 {
			t.Errorf("%d calls, %d keys left", asked, len(g.series))
		}
	})
}
