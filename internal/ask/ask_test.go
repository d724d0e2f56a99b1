package ask

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestConcurrentCallersCostTwoCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int64]
		var asked atomic.Int64
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				_, err := g.Do(t.Context(), "k", func(context.Context) int64 { time.Sleep(time.Second); return asked.Add(1) })
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := asked.Load(); n > 2 {
			t.Fatalf("50 concurrent callers cost %d calls, want at most 2", n)
		}
		if len(g.series) != 0 {
			t.Fatal("a call was left behind")
		}
	})
}

func TestResultIsNewerThanItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		state := 1
		look := func(context.Context) int { v := state; time.Sleep(time.Second); return v }
		go func() { _, _ = g.Do(t.Context(), "k", look) }()
		synctest.Wait()
		state = 2 // a push, while a call is under way
		if v, _ := g.Do(t.Context(), "k", look); v != 2 {
			t.Fatalf("got the result %d of a call from before the push", v)
		}
	})
}

func TestShareJoinsACallUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int64]
		var asked atomic.Int64
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				_, _ = g.Share(t.Context(), "k", func(context.Context) int64 { time.Sleep(time.Second); return asked.Add(1) })
			})
		}
		wg.Wait()
		if n := asked.Load(); n != 1 {
			t.Fatalf("%d calls, want 1", n)
		}
	})
}

func TestCallOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		var finished atomic.Bool
		go func() {
			_, err := g.Do(ctx, "k", func(context.Context) int { time.Sleep(time.Second); finished.Store(true); return 1 })
			if !errors.Is(err, gone) {
				t.Errorf("err = %v, want the cause", err)
			}
		}()
		synctest.Wait()
		cancel(gone)
		time.Sleep(2 * time.Second)
		if !finished.Load() {
			t.Fatal("the call ended with its caller")
		}
	})
}

// TestUnwanted: a call sees that no caller waits for it, and that one has joined it
// since.
func TestUnwanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, string]
		unwanted := func(wanted context.Context) string {
			time.Sleep(time.Second)
			if wanted.Err() != nil {
				return "unwanted"
			}
			return "wanted"
		}
		brief := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			t.Cleanup(cancel)
			return ctx
		}
		seen := make(chan string, 1)
		_, err := g.Do(brief(), "k", func(wanted context.Context) string {
			seen <- unwanted(wanted)
			return ""
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		_, _ = g.Do(brief(), "k", unwanted) // the next call, whose caller leaves too
		if v, err := g.Do(t.Context(), "k", unwanted); v != "wanted" || err != nil {
			t.Errorf("%q, %v: a call that a caller joined again is not wanted", v, err)
		}
		if v := <-seen; v != "unwanted" {
			t.Errorf("a call that all callers have left is %s", v)
		}
		_, _ = g.Share(brief(), "k", unwanted)
		if v, err := g.Share(t.Context(), "k", unwanted); v != "wanted" || err != nil {
			t.Errorf("%q, %v: Share joined a call for which nobody waits", v, err)
		}
		synctest.Wait()
		if len(g.series) != 0 {
			t.Error("a call was left behind")
		}
	})
}
