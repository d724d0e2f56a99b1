package crew

import (
	"runtime"
	"strings"
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

// working is how many goroutines the crews of this process have. Unlike runtime.NumGoroutine, it
// does not count one that has just ended, of whatever test.
func working() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*Crew).work(")
}

// A goroutine that has done its work takes the next, and ends when none comes.
func TestGoroutinesAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		for range 100 {
			var wait sync.WaitGroup
			for range 3 {
				wait.Add(1)
				c.Go(wait.Done)
			}
			wait.Wait()
			synctest.Wait()
		}
		if n := working(); n < 1 || n > 3 {
			t.Errorf("%d goroutines for 3 functions at once", n)
		}
		time.Sleep(2 * linger)
		synctest.Wait()
		if n := working(); n != 0 {
			t.Errorf("%d goroutines stay", n)
		}
		c.Go(func() {})
		synctest.Wait()
		c.Close()
		synctest.Wait()
		ran := false
		c.Go(func() { ran = true })
		synctest.Wait()
		if n := working(); n != 0 || !ran {
			t.Errorf("after Close %d goroutines stay; a function ran: %v", n, ran)
		}
	})
}
