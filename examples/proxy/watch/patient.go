package watch

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// DefaultPatience is the default of [Patient].
const DefaultPatience = 3 * time.Second

// Patient calls a function that may hang, as what asks a disk may. One call at most is under
// way, which all callers share, so that a disk that hangs costs one goroutine. It is safe for
// concurrent use, and must not be copied.
type Patient[T any] struct {
	// Call is the function. It is required. Its context does not end with a caller's.
	Call func(context.Context) (T, error)
	// Patience is how long a caller waits for the call, from when that began. If zero,
	// DefaultPatience.
	Patience time.Duration

	mu      sync.Mutex
	running *call[T] // nil if none is under way
}

// call is one call of the function.
type call[T any] struct {
	begun time.Time
	done  chan struct{}
	value T
	err   error
}

// Do returns what the function does. The error is a [*HangsError] if that takes too long,
// and the cause of ctx's end if ctx ends first.
func (p *Patient[T]) Do(ctx context.Context) (T, error) {
	var none T
	patience := p.Patience
	if patience <= 0 {
		patience = DefaultPatience
	}
	c := p.join()
	timer := time.NewTimer(time.Until(c.begun.Add(patience)))
	defer timer.Stop()
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	case <-timer.C:
		return none, &HangsError{Since: c.begun}
	}
}

// join returns the call that is under way, or a new one.
func (p *Patient[T]) join() *call[T] {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		return p.running
	}
	c := &call[T]{begun: time.Now(), done: make(chan struct{})}
	p.running = c
	go func() {
		c.value, c.err = p.Call(context.Background())
		p.mu.Lock()
		p.running = nil
		p.mu.Unlock()
		close(c.done)
	}()
	return c
}

// HangsError reports a call that has not returned.
type HangsError struct {
	Since time.Time // when it began
}

// Error says for how long.
func (e *HangsError) Error() string {
	return fmt.Sprintf("no answer since %s", e.Since.UTC().Format(time.RFC3339))
}
