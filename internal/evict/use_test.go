package evict_test

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/evict"
)

// TestUsesWithinAnHourAreOne: a fleet that pulls an image at once is no habit, and nothing
// has to be written for it.
func TestUsesWithinAnHourAreOne(t *testing.T) {
	first := evict.FirstUse(now)
	for minute := range 60 {
		if u := first.Used(now.Add(time.Duration(minute) * time.Minute)); u != first {
			t.Fatalf("a use %d minutes later makes %+v of %+v", minute, u, first)
		}
	}
	later := first.Used(now.Add(time.Hour))
	if later == first || later.Idle(now.Add(3*time.Hour)) != 2*time.Hour {
		t.Fatalf("a use an hour later makes %+v of %+v", later, first)
	}
}

// TestUseOfAWrongClock: a last use in the future is as old as it is far away, and ends
// with the next one.
func TestUseOfAWrongClock(t *testing.T) {
	u := evict.FirstUse(now.AddDate(10, 0, 0))
	if idle := u.Idle(now); idle < 10*365*24*time.Hour {
		t.Errorf("idle is %v", idle)
	}
	if idle := u.Used(now).Idle(now); idle != 0 {
		t.Errorf("after a use, idle is %v", idle)
	}
	for _, at := range []time.Time{{}, time.Unix(math.MinInt32, 0), time.Unix(math.MaxInt64/2, 0)} {
		evict.FirstUse(at).Used(now).Used(at).Idle(now)
	}
}

// order plans until nothing is left, and returns the names of the images as they go.
func order(images map[string]evict.Use) (names []string) {
	var g evict.Graph
	byDigest := map[string]string{}
	for n, u := range images {
		g.Add(evict.Image{Repository: "r", Digest: name(n), Bytes: 1, Use: u, Stored: now.AddDate(-1, 0, 0)})
		byDigest[name(n).String()] = n
	}
	for _, s := range g.Plan(evict.Limits{Free: math.MaxInt64}, now).Steps {
		names = append(names, byDigest[s.Images[0].Digest.String()])
	}
	return names
}

// TestColdestGoesFirst: what was never used again goes before habits, and of habits the
// one that is longest without a use for its number of uses.
func TestColdestGoesFirst(t *testing.T) {
	const day = 24 * time.Hour
	daily := evict.FirstUse(now.Add(-60 * day))
	for d := 59; d >= 3; d-- {
		daily = daily.Used(now.Add(-time.Duration(d) * day))
	}
	got := order(map[string]evict.Use{
		"new":                used(time.Hour),
		"a week old":         used(7 * day),
		"used twice":         used(7*day, 5*day),
		"weekly":             used(29*day, 22*day, 15*day, 8*day, day),
		"daily until lately": daily,
		"hourly":             used(3*time.Hour, 2*time.Hour, time.Hour, 0),
	})
	want := "[a week old new used twice weekly daily until lately hourly]"
	if fmt.Sprint(got) != want {
		t.Errorf("order %v, want %v", got, want)
	}
}

// TestGhostsComeBackProven: an image that was given up and is stored again has a habit.
// Images that were not given up, or too long ago, are new.
func TestGhostsComeBackProven(t *testing.T) {
	var g evict.Ghosts
	if u := g.Stored("r", name("a"), now); u != evict.FirstUse(now) {
		t.Errorf("an image that was never here has %+v", u)
	}
	before := evict.FirstUse(now.Add(-50 * time.Hour))
	victim := func(rule string, n int) evict.Victim {
		return evict.Victim{Rule: rule, Repository: rule, Digest: name(fmt.Sprint(n)), Use: before}
	}
	for n := range 10 {
		g.Evicted(100, victim("a small one", n))
	}
	for n := range 1000 {
		g.Evicted(100, victim("large", n))
	}
	for n := range 10 {
		if u := g.Stored("a small one", name(fmt.Sprint(n)), now); u != before.Used(now) {
			t.Fatalf("image %d of the small rule has %+v, want %+v: another rule has pushed it out", n, u, before.Used(now))
		}
	}
	if u := g.Stored("a small one", name("1"), now); u != evict.FirstUse(now) {
		t.Errorf("an image that came back before has %+v", u)
	}
	known := 0
	for n := range 1000 {
		if g.Stored("large", name(fmt.Sprint(n)), now) != evict.FirstUse(now) {
			known++
		}
	}
	if known != 90 || g.Stored("large", name("999"), now) != evict.FirstUse(now) {
		t.Errorf("%d images of the large rule are remembered, want 90", known)
	}
}

// TestGhostsGoByRule: when many are given up at once, the longest queue is cut to the
// length of the next one before that loses any; and an image that was given up again
// counts from then.
func TestGhostsGoByRule(t *testing.T) {
	var g evict.Ghosts
	var gone []evict.Victim
	for n := range 60 {
		rule := []string{"a", "b", "b"}[n%3]
		gone = append(gone, evict.Victim{Rule: rule, Repository: rule, Digest: name(fmt.Sprint(n)), Use: evict.FirstUse(now.Add(-9 * time.Hour))})
	}
	g.Evicted(60, gone[0], gone[1])
	g.Stored("a", gone[0].Digest, now)
	g.Evicted(60, gone...)
	g.Evicted(41)
	for n, v := range gone {
		back := g.Stored(v.Repository, v.Digest, now) != evict.FirstUse(now)
		if want := v.Rule == "a" || n > 28; back != want {
			t.Errorf("ghost %d of rule %s: known %v, want %v", n, v.Rule, back, want)
		}
	}
}

// TestGhostsAreBounded: 65,536 ghosts are kept, whatever is stored, and those that came
// back leave nothing behind.
func TestGhostsAreBounded(t *testing.T) {
	var g evict.Ghosts
	for round := range 3 {
		for n := range 50_000 {
			g.Evicted(math.MaxInt, evict.Victim{Rule: fmt.Sprint("rule", n%7), Digest: number(uint64(n)), Use: evict.FirstUse(now.Add(-time.Hour))})
			if round == 1 {
				g.Stored("", number(uint64(n)), now)
			}
		}
	}
	if n := evict.CountGhosts(&g); n > 65_536 {
		t.Errorf("%d ghosts", n)
	}
}

// TestGhostsForMany: Ghosts is safe for concurrent use.
func TestGhostsForMany(t *testing.T) {
	var g evict.Ghosts
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range 500 {
				g.Evicted(50, evict.Victim{Digest: name(fmt.Sprint(n % 100))})
				g.Stored("", name(fmt.Sprint(n%90)), now)
			}
		})
	}
	wg.Wait()
}
