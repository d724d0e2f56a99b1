// Package ask lets many who want to know the same thing ask once.
//
// Who asks joins a question that has not been sent yet. One that is under way
// may have been answered before the asker came, so it does not count: the
// asker joins the next one, which is sent when the first has its answer. So
// any number at once cost at most two, and an answer is never older than its
// question. Each question is told when nobody waits for it any more, so that one
// that was not sent yet need not be.
package ask

import (
	"context"
	"sync"
)

// Group is a set of questions. The zero value is ready. It is safe for
// concurrent use.
type Group[K comparable, V any] struct {
	mu    sync.Mutex
	calls map[K]*call[V]
}

type call[V any] struct {
	done   chan struct{}
	value  V
	next   *call[V] // not sent yet
	wanted context.Context
	leave  context.CancelFunc
	askers int
}

func newCall[V any]() *call[V] { return &call[V]{done: make(chan struct{})} }

// join counts one who waits. g.mu is held.
func (c *call[V]) join() {
	if c.askers == 0 {
		c.wanted, c.leave = context.WithCancel(context.Background())
	}
	c.askers++
}

// Do returns the answer of a question that is sent after Do was called, or the
// cause of ctx's end. ask runs on a goroutine of its own; the context that it is
// given ends when nobody waits any more, and has nothing else of ctx. What was sent
// may go on nevertheless; it must end by itself.
func (g *Group[K, V]) Do(ctx context.Context, k K, ask func(wanted context.Context) V) (V, error) {
	return g.do(ctx, k, ask, false)
}

// Share is Do for what never changes: it also joins a question under way.
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
	case share && c.askers > 0: // else everybody has left it, and it may not be sent
	default:
		if c.next == nil {
			c.next = newCall[V]()
			go g.after(k, c, ask)
		}
		c = c.next
	}
	c.join()
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.value, nil
	case <-ctx.Done():
		g.left(c)
		var none V
		return none, context.Cause(ctx)
	}
}

// left notes that somebody does not wait any more.
func (g *Group[K, V]) left(c *call[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.askers--; c.askers == 0 {
		c.leave()
	}
}

// after sends the question that follows c.
func (g *Group[K, V]) after(k K, c *call[V], ask func(context.Context) V) {
	<-c.done
	g.run(k, c.next, ask)
}

// run sends a question. It is the current one of its key.
func (g *Group[K, V]) run(k K, c *call[V], ask func(context.Context) V) {
	g.mu.Lock() // the one who asks has joined
	wanted := c.wanted
	g.mu.Unlock()
	c.value = ask(wanted)
	g.mu.Lock()
	if c.next != nil {
		g.calls[k] = c.next
	} else {
		delete(g.calls, k)
	}
	c.leave()
	g.mu.Unlock()
	close(c.done)
}
