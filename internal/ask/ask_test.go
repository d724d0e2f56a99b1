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
				_, err := g.Do(t.Context(), "k", func() int64 { time.Sleep(time.Second); return asked.Add(1) })
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
		look := func() int { v := state; time.Sleep(time.Second); return v }
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
				_, _ = g.Share(t.Context(), "k", func() int64 { time.Sleep(time.Second); return asked.Add(1) })
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
			_, err := g.Do(ctx, "k", func() int { time.Sleep(time.Second); finished.Store(true); return 1 })
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
