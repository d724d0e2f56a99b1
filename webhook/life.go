package webhook

import (
	"context"
	"sync"
)

// life is the time in which an outbox works. It is safe for concurrent use.
type life struct {
	ctx    context.Context // ends with the context of shutdown, or when that returns
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// newLife begins a life, in which nothing can be spawned if it is closed already.
func newLife(closed bool) *life {
	l := &life{closed: closed}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// spawn runs f on a goroutine that shutdown waits for. It reports false if
// shutdown was called before.
func (l *life) spawn(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Go(f)
	return true
}

func (l *life) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// shutdown waits for the goroutines that were spawned. If ctx ends before they do,
// the context of the life ends too, and the error is the cause of ctx's end.
func (l *life) shutdown(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	stop := context.AfterFunc(ctx, l.cancel)
	l.wg.Wait()
	cut := !stop()
	l.cancel()
	if cut {
		return context.Cause(ctx)
	}
	return nil
}
