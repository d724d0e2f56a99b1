package backoff

import (
	"math"
	"testing"
	"time"
)

func TestPause(t *testing.T) {
	const most = time.Duration(math.MaxInt64)
	for _, c := range []struct {
		first, longest time.Duration
		n              int
		want           time.Duration
	}{
		{time.Second, time.Minute, 0, time.Second},
		{time.Second, time.Minute, 1, 2 * time.Second},
		{time.Second, time.Minute, 5, 32 * time.Second},
		{time.Second, time.Minute, 6, time.Minute},
		{time.Second, time.Minute, math.MaxInt, time.Minute},
		{time.Second, time.Minute, -1, time.Second},
		{time.Hour, time.Minute, 0, time.Minute},
		{time.Second, 4 * time.Second, 2, 4 * time.Second},
		{1, most, 62, 1 << 62},
		{1, most, 63, most},
		{most, most, 1, most},
		{most/2 + 1, most, 1, most},
		{0, time.Minute, math.MaxInt, 0},
		{-1, time.Minute, 3, 0},
		{time.Second, 0, 3, 0},
	} {
		if got := (Backoff{First: c.first, Longest: c.longest}).Pause(c.n); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestJitter(t *testing.T) {
	b := Backoff{First: time.Second, Longest: time.Hour, Jitter: 0.25}
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := b.Pause(2)
		if d < 4*time.Second || d > 5*time.Second {
			t.Fatalf("%v", d)
		}
		seen[d] = true
	}
	if len(seen) < 900 {
		t.Errorf("%d different pauses of 1000", len(seen))
	}
}

func TestRestore(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct{ created, next, wantCreated, wantNext time.Duration }{
		{-time.Hour, time.Minute, -time.Hour, time.Minute},
		{-time.Hour, -time.Minute, -time.Hour, -time.Minute},
		{0, time.Hour, 0, time.Hour},
		{time.Second, time.Hour + 1, 0, 0},
		{1000 * time.Hour, 1001 * time.Hour, 0, 0},
	} {
		created, next := Restore(now.Add(c.created), now.Add(c.next), now, time.Hour)
		if created.Sub(now) != c.wantCreated || next.Sub(now) != c.wantNext {
			t.Errorf("%+v: %v, %v", c, created.Sub(now), next.Sub(now))
		}
	}
}

func FuzzPause(f *testing.F) {
	f.Add(int64(time.Second), int64(time.Hour), 3, 0.25)
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), 70, 1.0)
	f.Add(int64(math.MaxInt64/2), int64(math.MaxInt64), 0, 1.0)
	f.Add(int64(time.Second), int64(time.Hour), 3, math.NaN())
	f.Add(int64(time.Second), int64(time.Hour), 3, math.Inf(-1))
	f.Fuzz(func(t *testing.T, first, longest int64, n int, jitter float64) {
		b := Backoff{First: time.Duration(first), Longest: time.Duration(longest), Jitter: jitter}
		plain := Backoff{First: b.First, Longest: b.Longest}.Pause(n)
		if plain < 0 || plain > max(0, b.Longest) {
			t.Fatalf("%+v after %d: %v", b, n, plain)
		}
		if d := b.Pause(n); d < plain || float64(d-plain) > float64(plain)+1 {
			t.Fatalf("%+v after %d: %v, without chance %v", b, n, d, plain)
		}
	})
}
