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

func TestManyAtOnceCostTwo(t *testing.T) {
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
			t.Fatalf("50 at once asked %d times, want at most 2", n)
		}
		if len(g.calls) != 0 {
			t.Fatal("a question was left behind")
		}
	})
}

func TestAnAnswerIsNeverOlderThanItsQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		state := 1
		look := func(context.Context) int { v := state; time.Sleep(time.Second); return v }
		go func() { _, _ = g.Do(t.Context(), "k", look) }()
		synctest.Wait()
		state = 2 // a push, while a question is under way
		if v, _ := g.Do(t.Context(), "k", look); v != 2 {
			t.Fatalf("got the answer %d of a question sent before the push", v)
		}
	})
}

func TestShareJoinsWhatIsUnderWay(t *testing.T) {
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
			t.Fatalf("asked %d times, want 1", n)
		}
	})
}

func TestWhoLeavesDoesNotStopIt(t *testing.T) {
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
			t.Fatal("the question ended with who asked it")
		}
	})
}

// TestUnwanted: a question learns that nobody waits for it, and one that somebody
// joins afterwards is wanted again.
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
		_, _ = g.Do(brief(), "k", unwanted) // the next one, which is left too
		if v, err := g.Do(t.Context(), "k", unwanted); v != "wanted" || err != nil {
			t.Errorf("%q, %v: one that was joined again is not wanted", v, err)
		}
		if v := <-seen; v != "unwanted" {
			t.Errorf("one that everybody left is %s", v)
		}
		_, _ = g.Share(brief(), "k", unwanted)
		if v, err := g.Share(t.Context(), "k", unwanted); v != "wanted" || err != nil {
			t.Errorf("%q, %v: what nobody waits for is shared", v, err)
		}
		synctest.Wait()
		if len(g.calls) != 0 {
			t.Error("a question was left behind")
		}
	})
}
