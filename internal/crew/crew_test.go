package crew

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestFunctionsRunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		defer c.Close()
		var begun atomic.Int32
		gate := make(chan struct{})
		for range 10 {
			c.Go(func() { begun.Add(1); <-gate })
		}
		synctest.Wait()
		if n := begun.Load(); n != 10 {
			t.Errorf("%d of 10 functions run", n)
		}
		close(gate)
	})
}

// A goroutine that has done its work takes the next, and ends when none comes.
func TestGoroutinesAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		before := runtime.NumGoroutine()
		for range 100 {
			var wait sync.WaitGroup
			for range 3 {
				wait.Add(1)
				c.Go(wait.Done)
			}
			wait.Wait()
			synctest.Wait()
		}
		if n := runtime.NumGoroutine() - before; n < 1 || n > 3 {
			t.Errorf("%d goroutines for 3 functions at once", n)
		}
		time.Sleep(2 * linger)
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n != 0 {
			t.Errorf("%d goroutines stay", n)
		}
		c.Go(func() {})
		synctest.Wait()
		c.Close()
		synctest.Wait()
		ran := false
		c.Go(func() { ran = true })
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n != 0 || !ran {
			t.Errorf("after Close %d goroutines stay; a function ran: %v", n, ran)
		}
	})
}
