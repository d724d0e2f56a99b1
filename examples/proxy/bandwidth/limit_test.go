package bandwidth_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/bandwidth"
)

// inBubble runs a test in fake time. At its end, what still waits for a turn has it.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t)
		time.Sleep(time.Minute)
	})
}

// takers take pieces of a limit for a time, each for its key, and return how many bytes each
// key got and the longest that one of them waited for a piece.
func takers(t *testing.T, l *bandwidth.Limit, d time.Duration, keys ...string) (got map[string]int, longest time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	got = map[string]int{}
	for _, key := range keys {
		all.Go(func() {
			for {
				began, n := time.Now(), l.Piece()
				if l.Take(ctx, key, n) != nil {
					return
				}
				mu.Lock()
				got[key] += n
				longest = max(longest, time.Since(began))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return got, longest
}

// many returns a key n times.
func many(n int, key string) (keys []string) {
	for range n {
		keys = append(keys, key)
	}
	return keys
}

// TestLimitHolds: those who take get what the limit is, and no more than a burst beside it.
func TestLimitHolds(t *testing.T) {
	for _, perSecond := range []int64{bandwidth.Least, 1 << 20, 50 << 20, 1 << 30} {
		inBubble(t, func(t *testing.T) {
			var l bandwidth.Limit
			l.Set(perSecond)
			got, _ := takers(t, &l, 10*time.Second, many(8, "a")...)
			if rate := float64(got["a"]) / 10 / float64(perSecond); rate < 0.98 || rate > 1.02 {
				t.Errorf("%.3f of %d bytes per second", rate, perSecond)
			}
		})
	}
}

// TestKeysShareFairly: a key with a hundred connections gets as much as one with a single
// one, and none of the hundred waits for so long that its connection seems dead.
func TestKeysShareFairly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var l bandwidth.Limit
		l.Set(bandwidth.Least)
		got, longest := takers(t, &l, 20*time.Second, append(many(100, "crowd"), "alone")...)
		if share := float64(got["alone"]) / float64(got["alone"]+got["crowd"]); share < 0.48 || share > 0.52 {
			t.Errorf("one connection beside a hundred gets %.2f, want half: %v", share, got)
		}
		if longest > 5*time.Second {
			t.Errorf("somebody waited for %v", longest)
		}
	})
}

// TestKeysShareBytes: it is bytes that keys share, and not turns.
func TestKeysShareBytes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var l bandwidth.Limit
		l.Set(8 << 20)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var small atomic.Int64
		for range 64 {
			go func() {
				for l.Take(ctx, "small", 512) == nil {
					small.Add(512)
				}
			}()
		}
		large := 0
		for l.Take(ctx, "large", l.Piece()) == nil {
			large += l.Piece()
		}
		if share := float64(large) / float64(int64(large)+small.Load()); share < 0.47 || share > 0.53 {
			t.Errorf("the key with large pieces gets %.2f, want half", share)
		}
	})
}

// TestManyKeysWait: what waits is served within the time after which an upstream counts as
// silent, if a rule has most of the connections and each of many others has one.
func TestManyKeysWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var l bandwidth.Limit
		l.Set(bandwidth.Least)
		keys := many(96, "crowd")
		for i := range 32 {
			keys = append(keys, fmt.Sprint(i))
		}
		if _, longest := takers(t, &l, time.Minute, keys...); longest > 25*time.Second {
			t.Errorf("somebody waited for %v, want less than the 30 s of a silent upstream", longest)
		}
	})
}

// TestLimitChanges: those that wait go on when the limit is taken away, and one who leaves
// holds up nobody.
func TestLimitChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var l bandwidth.Limit
		if err := l.Take(t.Context(), "a", 1<<30); err != nil || l.Piece() != 0 {
			t.Fatalf("%v, piece %d: the zero value limits nothing", err, l.Piece())
		}
		l.Set(bandwidth.Least)
		begun := time.Now()
		for l.Take(t.Context(), "a", l.Piece()) == nil && time.Since(begun) == 0 {
		} // the burst is gone
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 101)
		for range 100 {
			go func() { ended <- l.Take(ctx, "a", 512) }()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		for range 100 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want the end of the context", err)
			}
		}
		now := time.Now()
		if err := l.Take(t.Context(), "a", 512); err != nil || time.Since(now) > 10*time.Millisecond {
			t.Errorf("%v after %v: those that left must not take anything", err, time.Since(now))
		}
		for range 100 {
			go func() { ended <- l.Take(t.Context(), "a", 512) }()
		}
		synctest.Wait()
		now = time.Now()
		l.Set(0)
		for range 100 {
			<-ended
		}
		if waited := time.Since(now); waited > 10*time.Millisecond {
			t.Errorf("those that waited went on after %v", waited)
		}
	})
}
