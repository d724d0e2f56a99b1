package webhook

import (
	"context"

	"github.com/pullthrough/pullthrough/internal/gate"
)

// life is the time in which an outbox works. It is safe for concurrent use.
type life struct {
	ctx    context.Context // ends with the context of shutdown, or when that returns
	cancel context.CancelFunc

	work gate.Gate
}

// newLife begins a life, in which nothing can be spawned if it is closed already.
func newLife(closed bool) *life {
	l := &life{}
	if closed {
		l.work.Close()
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// spawn runs f on a goroutine that shutdown waits for. It reports false if
// shutdown was called before.
func (l *life) spawn(f func()) bool { return l.work.Go(f) }

func (l *life) isClosed() bool { return l.work.Closed() }

// shutdown waits for the goroutines that were spawned. If ctx ends before they do,
// the context of the life ends too, and the error is the cause of ctx's end.
func (l *life) shutdown(ctx context.Context) error {
	l.work.Close()
	stop := context.AfterFunc(ctx, l.cancel)
	_ = l.work.Wait(context.Background()) // what l.cancel cuts ends too
	cut := !stop()
	l.cancel()
	if cut {
		return context.Cause(ctx)
	}
	return nil
}
