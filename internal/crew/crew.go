// Package crew runs functions on goroutines that wait a moment for the next one. The
// stack of a goroutine grows by being copied while its first function goes deep into
// other packages; for an exchange with an upstream that is a fifth of the work. A
// goroutine that has grown once need not do it again.
package crew

import (
	"sync"
	"time"
)

// linger is how long a goroutine waits for the next function.
const linger = time.Second

// Crew is a set of such goroutines. It is safe for concurrent use.
type Crew struct {
	next  chan func()
	over  chan struct{} // closed by Close
	close func()
}

// New returns a crew that has no goroutines yet.
func New() *Crew {
	over := make(chan struct{})
	return &Crew{next: make(chan func()), over: over, close: sync.OnceFunc(func() { close(over) })}
}

// Go runs f on a goroutine of its own, which waits already if possible.
func (c *Crew) Go(f func()) {
	select {
	case c.next <- f:
	default:
		go c.work(f)
	}
}

// Close ends the goroutines that wait. Go goes on to work, with goroutines that do not
// wait any more. It may be called more than once.
func (c *Crew) Close() { c.close() }

// work runs f, and what comes soon after it.
func (c *Crew) work(f func()) {
	f()
	select {
	case <-c.over:
		return
	default:
	}
	timer := time.NewTimer(linger)
	defer timer.Stop()
	for {
		select {
		case f = <-c.next:
			f()
			timer.Reset(linger)
		case <-timer.C:
			return
		case <-c.over:
			return
		}
	}
}
