package flight

import (
	"fmt"
	"math"
	"testing"
)

// climb lets a ladder judge so many windows of an upstream that brings bring(n) to n
// connections, in units of 1 MiB/s, and returns the numbers of connections that it had.
func climb(l *ladder, windows int, left int64, bring func(window, n int) float64) (had []int) {
	for w := range windows {
		had = append(had, l.n)
		l.judge(bring(w, l.n)*(1<<20), l.n, left)
	}
	return had
}

// partOf is how often a number was had in the last half.
func partOf(had []int, n int) float64 {
	had = had[len(had)/2:]
	times := 0
	for _, h := range had {
		if h == n {
			times++
		}
	}
	return float64(times) / float64(len(had))
}

// TestLadder: how many connections a download has most of the time, and at most, where so
// many bring so much.
func TestLadder(t *testing.T) {
	capped := func(all float64) func(int, int) float64 {
		return func(_, n int) float64 { return min(float64(n), all) }
	}
	for name, c := range map[string]struct {
		most    int
		bring   func(window, n int) float64
		settles int
		highest int
	}{
		"each is capped":               {8, capped(math.Inf(1)), 8, 8},
		"each is capped, six at most":  {6, capped(math.Inf(1)), 6, 6},
		"each is capped, two at most":  {2, capped(math.Inf(1)), 2, 2},
		"all together are capped":      {8, capped(1), 1, 2},
		"more bring less":              {8, func(_, n int) float64 { return 1 / float64(n) }, 1, 2},
		"a second brings a little":     {8, func(_, n int) float64 { return 1 + float64(n-1)*.25 }, 1, 2},
		"three fill the link":          {8, capped(3), 4, 8},
		"one gets faster by itself":    {8, func(w, _ int) float64 { return min(16, math.Pow(1.5, float64(w))) }, 1, 2},
		"it gets faster while tried":   {8, func(w, _ int) float64 { return min(32, 1+float64(max(0, w-3))) }, 1, 8},
		"the others arrive later":      {8, func(w, n int) float64 { return min(float64(n), float64(w-20)) }, 8, 8},
		"one fills a gigabit":          {8, func(_, n int) float64 { return 120 * float64(n) }, 1, 1},
		"two fill a gigabit":           {8, func(_, n int) float64 { return 60 * float64(n) }, 2, 2},
		"nothing comes":                {8, capped(0), 1, 1},
		"the rates are noisy":          {8, func(w, n int) float64 { return float64(n) * (1 + .15*float64(w%3-1)) }, 8, 8},
		"the sum is noisy":             {8, func(w, _ int) float64 { return 1 + .1*float64(w%3-1) }, 1, 2},
		"the link is shared later on":  {8, func(w, n int) float64 { return map[bool]float64{true: float64(n), false: 4}[w < 30] }, 1, 8},
		"the link becomes free later":  {8, func(w, n int) float64 { return map[bool]float64{true: 1, false: float64(n)}[w < 50] }, 8, 8},
		"connections bring ever less":  {8, func(_, n int) float64 { return math.Sqrt(float64(n)) }, 8, 8},
		"connections bring still less": {8, func(_, n int) float64 { return math.Pow(float64(n), .3) }, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			l := &ladder{most: c.most, n: 1}
			had := climb(l, 1200, math.MaxInt64/2, c.bring)
			highest := 0
			for _, n := range had {
				highest = max(highest, n)
			}
			if s := partOf(had, c.settles); s < .9 || highest > c.highest {
				t.Errorf("%d connections %.2f of the time, at most %d; want %d, at most %d\n%v", c.settles, s, highest, c.settles, c.highest, had[:60])
			}
		})
	}
}

// TestLadderClimbsAtOnce: where each connection brings its share, all are there after a few
// windows.
func TestLadderClimbsAtOnce(t *testing.T) {
	had := climb(&ladder{most: 8, n: 1}, 6, math.MaxInt64/2, func(_, n int) float64 { return float64(n) })
	if got, want := fmt.Sprint(had), "[1 1 2 4 8 8]"; got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestLadderLeavesTheRest: what is here within a second has no second connection, and what
// is left of a blob has no further one.
func TestLadderLeavesTheRest(t *testing.T) {
	each := func(_, n int) float64 { return float64(n) }
	for _, c := range []struct {
		left int64
		n    int
		want int
	}{{1<<20 - 1, 1, 1}, {1 << 20, 1, 2}, {600 << 10, 2, 2}, {630 << 10, 2, 4}, {0, 4, 4}} {
		l := &ladder{most: 8, n: c.n}
		climb(l, 2, c.left, each)
		if l.n != c.want {
			t.Errorf("%d connections with %d bytes left became %d, want %d", c.n, c.left, l.n, c.want)
		}
	}
}

// TestLadderWithoutSlots: a number that cannot be had is not waited for, and gets no credit
// for what comes without it.
func TestLadderWithoutSlots(t *testing.T) {
	l := &ladder{most: 8, n: 1}
	for i := range 100 {
		l.judge(float64(1+i/2)*(1<<20), 1, math.MaxInt64/2)
		if l.n > 2 {
			t.Fatalf("%d connections are wanted where one can be had", l.n)
		}
	}
	if l.n != 1 {
		t.Errorf("%d connections are wanted", l.n)
	}
}
