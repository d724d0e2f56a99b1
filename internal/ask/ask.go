// Package ask lets concurrent callers with the same question share one call.
//
// A caller joins a call that has not begun. A call that is under way may already have
// seen a state older than the caller's, so the caller does not join it, but the next
// call, which begins when the first one ends. Any number of concurrent callers thus
// cost at most two calls, and no caller receives a result from before its own request.
// A call can see whether anyone still waits for it, so that one that has not sent
// anything yet need not.
package ask

import (
	"context"
	"sync"
)

// Group is a set of calls by key. The zero value is ready to use. It is safe for
// concurrent use.
type Group[K comparable, V any] struct {
	mu    sync.Mutex
	calls map[K]*call[V]
}

type call[V any] struct {
	done   chan struct{}
	value  V
	next   *call[V]           // the call after this one; it has not begun
	wanted context.Context    // ends when no caller waits any more
	cancel context.CancelFunc // ends wanted
	waits  int                // how many callers wait
}

func newCall[V any]() *call[V] { return &call[V]{done: make(chan struct{})} }

// join counts one more caller that waits. g.mu is held.
func (c *call[V]) join() {
	if c.waits == 0 {
		c.wanted, c.cancel = context.WithCancel(context.Background())
	}
	c.waits++
}

// Do returns the result of a call that begins after Do was called, or the cause of
// ctx's end. ask runs on a goroutine of its own. Its context ends when no caller waits
// any more, and has neither values nor a deadline of ctx. ask need not return then,
// but it must return at some time.
func (g *Group[K, V]) Do(ctx context.Context, k K, ask func(wanted context.Context) V) (V, error) {
	return g.do(ctx, k, ask, false)
}

// Share is Do for results that never change: it also joins a call that is under way.
func (g *Group[K, V]) Share(ctx context.Context, k K, ask func(wanted context.Context) V) (V, error) {
	return g.do(ctx, k, ask, true)
}

func (g *Group[K, V]) do(ctx context.Context, k K, ask func(context.Context) V, share bool) (V, error) {
	g.mu.Lock()
	if g.calls == nil {
		g.calls = map[K]*call[V]{}
	}
	c := g.calls[k]
	switch {
	case c == nil:
		c = newCall[V]()
		g.calls[k] = c
		go g.run(k, c, ask)
	case share && c.waits > 0: // with no caller left, the call may have given up
	default:
		if c.next == nil {
			c.next = newCall[V]()
			go g.runAfter(k, c, ask)
		}
		c = c.next
	}
	c.join()
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.value, nil
	case <-ctx.Done():
		g.leave(c)
		var none V
		return none, context.Cause(ctx)
	}
}

// leave notes that a caller does not wait any more.
func (g *Group[K, V]) leave(c *call[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.waits--; c.waits == 0 {
		c.cancel()
	}
}

// runAfter runs the call after c when c has ended.
func (g *Group[K, V]) runAfter(k K, c *call[V], ask func(context.Context) V) {
	<-c.done
	g.run(k, c.next, ask)
}

// run runs c, the call under way for k.
func (g *Group[K, V]) run(k K, c *call[V], ask func(context.Context) V) {
	g.mu.Lock() // until the caller that made c has joined it
	wanted := c.wanted
	g.mu.Unlock()
	c.value = ask(wanted)
	g.mu.Lock()
	if c.next != nil {
		g.calls[k] = c.next
	} else {
		delete(g.calls, k)
	}
	c.cancel()
	g.mu.Unlock()
	close(c.done)
}
