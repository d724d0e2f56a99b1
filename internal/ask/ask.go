// Package ask lets concurrent callers with the same question share calls.
//
// A caller joins a call that has not begun to look. One that is under way may already
// have seen a state older than the caller's, so the caller does not join it, unless
// its [Terms] allow that, but the next one. The next call begins when none is under way.
// If its terms allow several calls at once, it also begins before that, after a pause
// that is longer the more are under way: callers that come one shortly after the other
// share a call, and none waits for the end of a call that it cannot use. No caller
// receives a result from before its own request or the age that it allows.
//
// A call can see whether anyone still waits for it, so that one that has not sent
// anything yet need not.
package ask

import (
	"context"
	"math"
	"sync"
	"time"
)

// firstPause is the pause before a second call begins beside one that is under way, and
// each further call waits pauseGrowth times as long. An upstream that answers faster
// than firstPause is asked one question at a time.
const (
	firstPause  = time.Millisecond
	pauseGrowth = 4
)

// Terms say which calls serve a caller. The zero value is the strictest.
type Terms struct {
	// Age is how long ago a call may have begun to look that the caller joins. If zero,
	// the caller joins only calls that have not begun.
	Age time.Duration
	// AtOnce is how many calls with the same key may be under way when another one
	// begins for the caller, that one included. If zero, one.
	AtOnce int
	// Patience is how long the caller waits before it gets the error Impatient. If zero,
	// it waits as long as its context lasts.
	Patience  time.Duration
	Impatient error
}

// Group is a set of calls by key. The zero value is ready to use. It is safe for
// concurrent use.
type Group[K comparable, V any] struct {
	// Go runs a call on a goroutine of its own. If nil, that is a new one. It must not
	// change after first use.
	Go func(f func())

	mu     sync.Mutex
	series map[K]*series[V]
	timers sync.Pool // of *time.Timer, which are stopped
}

// series is the calls with one key.
type series[V any] struct {
	running int      // calls that were started and have not ended
	last    *call[V] // the last call; it may have ended
	waiting *call[V] // the last call, if it was not started
}

type call[V any] struct {
	ask     func(wanted context.Context, begin func()) V
	atOnce  int // as in Terms
	made    time.Time
	started bool      // ask was called, or is about to be
	begun   time.Time // when ask began to look; zero before that
	over    bool      // nobody may join any more: the call has ended, or all callers left
	done    chan struct{}
	value   V
	wanted  context.Context    // ends when no caller waits any more
	cancel  context.CancelFunc // ends wanted
	waits   int                // how many callers wait
}

// serves reports whether a caller may join c, which is the last call. g.mu is held.
func (c *call[V]) serves(t Terms) bool {
	switch {
	case c == nil || c.over:
		return false
	case c.begun.IsZero():
		return true
	}
	return t.Age > 0 && time.Since(c.begun) < t.Age
}

// join counts one more caller that waits. g.mu is held.
func (c *call[V]) join() {
	if c.waits == 0 {
		c.wanted, c.cancel = context.WithCancel(context.Background())
	}
	c.waits++
}

// Ask returns the result of a call that serves the caller by its terms, or the cause of
// ctx's end. ask runs on a goroutine of its own. It calls begin when it begins to look,
// so that callers that come while it waits for its turn still join; before begin it
// must learn nothing that its result depends on. Its context ends when no caller waits
// any more, and has neither values nor a deadline of ctx. ask need not return then, but
// it must return at some time.
func (g *Group[K, V]) Ask(ctx context.Context, k K, t Terms, ask func(wanted context.Context, begin func()) V) (V, error) {
	g.mu.Lock()
	s := g.series[k]
	if s == nil {
		if g.series == nil {
			g.series = map[K]*series[V]{}
		}
		s = &series[V]{}
		g.series[k] = s
	}
	c := s.last
	if !c.serves(t) {
		c = &call[V]{ask: ask, atOnce: max(t.AtOnce, 1), made: time.Now(), done: make(chan struct{})}
		s.last, s.waiting = c, c
		c.join()
		g.start(k, s)
	} else {
		c.join()
	}
	g.mu.Unlock()
	return g.wait(ctx, c, t)
}

// Join is Ask where a call already serves the caller. Otherwise ok is false.
func (g *Group[K, V]) Join(ctx context.Context, k K, t Terms) (v V, ok bool, err error) {
	g.mu.Lock()
	s := g.series[k]
	if s == nil || !s.last.serves(t) {
		g.mu.Unlock()
		return v, false, nil
	}
	c := s.last
	c.join()
	g.mu.Unlock()
	v, err = g.wait(ctx, c, t)
	return v, true, err
}

// wait waits for the end of a call that the caller has joined, as long as it wants to.
func (g *Group[K, V]) wait(ctx context.Context, c *call[V], t Terms) (V, error) {
	var late <-chan time.Time
	if t.Patience > 0 {
		timer, _ := g.timers.Get().(*time.Timer)
		if timer == nil {
			timer = time.NewTimer(t.Patience)
		} else {
			timer.Reset(t.Patience)
		}
		late = timer.C
		defer func() {
			timer.Stop()
			g.timers.Put(timer)
		}()
	}
	err := t.Impatient
	select {
	case <-c.done:
		return c.value, nil
	case <-late:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	g.leave(c)
	var none V
	return none, err
}

// Do is Ask by the strictest terms, for an ask that begins to look at once.
func (g *Group[K, V]) Do(ctx context.Context, k K, ask func(wanted context.Context) V) (V, error) {
	return g.Ask(ctx, k, Terms{}, atOnce(ask))
}

// Share is Do for results that never change: it also joins any call that is under way.
func (g *Group[K, V]) Share(ctx context.Context, k K, ask func(wanted context.Context) V) (V, error) {
	return g.Ask(ctx, k, Terms{Age: math.MaxInt64}, atOnce(ask))
}

// atOnce makes ask begin to look at once.
func atOnce[V any](ask func(context.Context) V) func(context.Context, func()) V {
	return func(wanted context.Context, begin func()) V {
		begin()
		return ask(wanted)
	}
}

// leave notes that a caller does not wait any more. A call that was started and that all
// callers have left may have given up, so that nobody joins it.
func (g *Group[K, V]) leave(c *call[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.waits--; c.waits == 0 {
		c.cancel()
		c.over = c.started
	}
}

// start starts the call that waits in s, if it is its time, or sees to it that start is
// called again. g.mu is held.
func (g *Group[K, V]) start(k K, s *series[V]) {
	c := s.waiting
	switch {
	case c == nil:
		return
	case c.waits == 0: // all callers have left
		s.waiting, c.over = nil, true
		return
	case s.running == 0:
	case s.running >= c.atOnce:
		return // until one ends
	default:
		if left := time.Until(c.made.Add(pause(s.running))); left > 0 {
			time.AfterFunc(left, func() {
				g.mu.Lock()
				defer g.mu.Unlock()
				if s.waiting == c {
					g.start(k, s)
				}
			})
			return
		}
	}
	s.waiting = nil
	s.running++
	c.started = true
	if g.Go == nil {
		go g.run(k, s, c)
		return
	}
	g.Go(func() { g.run(k, s, c) })
}

// pause is how long a call waits for others to join before it begins beside n others.
func pause(n int) time.Duration {
	p := firstPause
	for range n - 1 {
		p *= pauseGrowth
	}
	return p
}

// run runs a call that was started.
func (g *Group[K, V]) run(k K, s *series[V], c *call[V]) {
	g.mu.Lock() // until the caller that made c has joined it
	wanted := c.wanted
	g.mu.Unlock()
	c.value = c.ask(wanted, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		c.begun = time.Now()
	})
	g.mu.Lock()
	c.over = true
	s.running--
	g.start(k, s)
	if s.running == 0 {
		delete(g.series, k)
	}
	c.cancel()
	g.mu.Unlock()
	close(c.done)
}
