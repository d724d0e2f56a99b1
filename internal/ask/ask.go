// Package ask lets many who want to know the same thing ask once.
//
// Who asks joins a question that has not been sent yet. One that is under way
// may have been answered before the asker came, so it does not count: the
// asker joins the next one, which is sent when the first has its answer. So
// any number at once cost at most two, and an answer is never older than its
// question.
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
	done  chan struct{}
	value V
	next  *call[V] // not sent yet
}

// Do returns the answer of a question that is sent after Do was called, or the
// cause of ctx's end. ask runs on a goroutine of its own and goes on when
// nobody waits any more; it must end by itself.
func (g *Group[K, V]) Do(ctx context.Context, k K, ask func() V) (V, error) {
	return g.do(ctx, k, ask, false)
}

// Share is Do for what never changes: it also joins a question under way.
func (g *Group[K, V]) Share(ctx context.Context, k K, ask func() V) (V, error) {
	return g.do(ctx, k, ask, true)
}

func (g *Group[K, V]) do(ctx context.Context, k K, ask func() V, share bool) (V, error) {
	g.mu.Lock()
	if g.calls == nil {
		g.calls = map[K]*call[V]{}
	}
	c := g.calls[k]
	switch {
	case c == nil:
		c = &call[V]{done: make(chan struct{})}
		g.calls[k] = c
		go g.run(k, c, ask)
	case share:
	case c.next == nil:
		c.next = &call[V]{done: make(chan struct{})}
		go g.after(k, c, ask)
		c = c.next
	default:
		c = c.next
	}
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.value, nil
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

// after sends the question that follows c.
func (g *Group[K, V]) after(k K, c *call[V], ask func() V) {
	<-c.done
	g.run(k, c.next, ask)
}

// run sends a question. It is the current one of its key.
func (g *Group[K, V]) run(k K, c *call[V], ask func() V) {
	c.value = ask()
	g.mu.Lock()
	if c.next != nil {
		g.calls[k] = c.next
	} else {
		delete(g.calls, k)
	}
	g.mu.Unlock()
	close(c.done)
}
