// Package gate lets work begin until it is closed, and waits for the end of what
// began.
package gate

import (
	"context"
	"sync"
)

// Gate counts the goroutines that run behind it. The zero value is open. It is safe
// for concurrent use and must not be copied.
type Gate struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // closed when the gate is closed and n is 0; made by Close
}

// Go runs f on a goroutine of its own and returns true. Once Close was called it
// does nothing and returns false. f must not wait for the gate.
func (g *Gate) Go(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.n++
	go func() {
		defer g.leave()
		f()
	}()
	return true
}

func (g *Gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.closed {
		close(g.idle)
	}
}

// Close lets nothing more begin. What began goes on. Closing a gate again does
// nothing.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.closed, g.idle = true, make(chan struct{})
	if g.n == 0 {
		close(g.idle)
	}
}

// Closed reports whether Close was called.
func (g *Gate) Closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// Wait closes the gate and waits until all that began has ended. If ctx ends
// before, Wait returns its cause, and what began goes on.
func (g *Gate) Wait(ctx context.Context) error {
	g.Close()
	select {
	case <-g.idle: // set for good by Close
		return nil
	default:
	}
	select {
	case <-g.idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
