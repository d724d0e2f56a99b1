package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/registry"
)

// Slow clients have small buffers and take slowPiece every slowPause: 160 KiB/s.
const (
	slowBuffer = 32 << 10
	slowPiece  = 8 << 10
	slowPause  = 50 * time.Millisecond
)

// Slow has n clients read a part slowly. When some time has passed and each has its first
// byte, it calls look, while they go on; then they leave. It returns the median of their
// first bytes. The part must be so large that none has all of it by then.
func Slow(ctx context.Context, addr string, p registry.Part, n int, long time.Duration, look func() error) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conns, err := dialAll(ctx, addr, n)
	if err != nil {
		return 0, err
	}
	defer closeAll(conns)
	firsts, leave := make(chan time.Duration, n), make(chan struct{})
	var wg sync.WaitGroup
	begun := time.Now()
	for i, c := range conns {
		wg.Go(func() {
			if err := c.dawdle(ctx, p, func() { firsts <- time.Since(begun) }, leave); err != nil {
				cancel(fmt.Errorf("client %d of %d: %s: %w", i+1, n, p.Path, err))
			}
		})
	}
	var all []time.Duration
	passed := time.After(long)
	for ctx.Err() == nil && (passed != nil || len(all) < n) {
		select {
		case <-passed:
			passed = nil
		case first := <-firsts:
			all = append(all, first)
		case <-ctx.Done():
		}
	}
	if ctx.Err() == nil {
		if err := look(); err != nil {
			cancel(err)
		}
	}
	close(leave)
	wg.Wait()
	return Median(all), context.Cause(ctx)
}

// dawdle reads slowly until leave. It calls first when it has the first byte.
func (c *conn) dawdle(ctx context.Context, p registry.Part, first func(), leave <-chan struct{}) error {
	if err := c.tcp.SetReadBuffer(slowBuffer); err != nil {
		return err
	}
	h, err := c.ask(ctx, request(c.addr, p.Path))
	if err != nil {
		return err
	}
	body, buf := c.body(h), make([]byte, slowPiece)
	for n := 0; ; {
		got, err := body.Read(buf)
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", n, p.Size, err)
		}
		if n == 0 && got > 0 {
			first()
		}
		n += got
		select {
		case <-leave:
			return nil
		case <-time.After(slowPause):
		}
	}
}
