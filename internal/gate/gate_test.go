package gate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestNothingBeginsBehindAClosedGate(t *testing.T) {
	var g Gate
	if g.Closed() {
		t.Error("the zero value is closed")
	}
	g.Close()
	g.Close()
	if !g.Closed() || g.Go(func() { t.Error("it ran") }) {
		t.Error("a closed gate is open")
	}
	if err := g.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWaitsForWhatBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		var ended atomic.Int32
		for i := range 3 {
			g.Go(func() {
				time.Sleep(time.Duration(i) * time.Second)
				ended.Add(1)
			})
		}
		if err := g.Wait(t.Context()); err != nil || ended.Load() != 3 {
			t.Errorf("%v with %d of 3", err, ended.Load())
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		g.Go(func() { time.Sleep(time.Minute) })
		cause := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		if err := g.Wait(ctx); err != cause {
			t.Errorf("%v", err)
		}
		if g.Go(func() {}) {
			t.Error("it is open after Wait gave up")
		}
		if err := g.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if err := g.Wait(ctx); err != nil { // nothing is left to wait for
			t.Errorf("with an ended context: %v", err)
		}
	})
}

// What Go said yes to has ended when Wait returns, however they meet.
func TestRace(t *testing.T) {
	for range 50 {
		var g Gate
		var begun, ended atomic.Int32
		var callers sync.WaitGroup
		for range 4 {
			callers.Go(func() {
				for g.Go(func() { ended.Add(1) }) {
					begun.Add(1)
				}
			})
		}
		for range 2 {
			callers.Go(func() {
				if err := g.Wait(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if begun.Load() != ended.Load() {
			t.Fatalf("%d began, %d ended", begun.Load(), ended.Load())
		}
	}
}
