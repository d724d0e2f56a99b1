package store

import (
	"context"
	"sync"
	"time"
)

// tick does what a Dir does beside the calls: a function each hour, and others once. It
// has no goroutine between them.
type tick struct {
	ctx    context.Context // ends with stop
	cancel context.CancelFunc
	work   sync.WaitGroup
	mu     sync.Mutex // held while timer is set
	timer  *time.Timer
	over   bool
	once   []func() // done when start is called
}

// soon has f called once, after start, on a goroutine.
func (t *tick) soon(f func()) { t.once = append(t.once, f) }

// start calls f each hour.
func (t *tick) start(f func()) {
	t.ctx, t.cancel = context.WithCancel(context.Background())
	for _, f := range t.once {
		t.work.Go(f)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(clearEvery, func() {
		t.mu.Lock()
		over := t.over
		if !over {
			t.work.Add(1)
		}
		t.mu.Unlock()
		if over {
			return
		}
		defer t.work.Done()
		f()
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.over {
			t.timer.Reset(clearEvery)
		}
	})
}

// now has f called on a goroutine, unless stop was called.
func (t *tick) now(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.work.Go(f)
	}
}

// context ends with stop.
func (t *tick) context() context.Context { return t.ctx }

// stop returns when no call runs and none will.
func (t *tick) stop() {
	t.mu.Lock()
	t.over = true
	t.timer.Stop()
	t.mu.Unlock()
	t.cancel()
	t.work.Wait()
}
