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

// Slow has n clients read a part slowly for some time, and calls look at the end, while
// they still read. It returns the median of their first bytes. They leave before the
// part ends, unless it is small.
func Slow(ctx context.Context, addr string, p registry.Part, n int, long time.Duration, look func() error) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conns, err := dialAll(ctx, addr, n)
	if err != nil {
		return 0, err
	}
	defer closeAll(conns)
	first := make([]time.Duration, n)
	leave := make(chan struct{})
	var wg sync.WaitGroup
	begun := time.Now()
	for i, c := range conns {
		wg.Go(func() {
			if err := c.dawdle(ctx, p, begun, &first[i], leave); err != nil {
				cancel(fmt.Errorf("client %d of %d: %s: %w", i+1, n, p.Path, err))
			}
		})
	}
	select {
	case <-ctx.Done():
	case <-time.After(long):
		if err := look(); err != nil {
			cancel(err)
		}
	}
	close(leave)
	wg.Wait()
	return Median(first), context.Cause(ctx)
}

// dawdle reads slowly until leave.
func (c *conn) dawdle(ctx context.Context, p registry.Part, begun time.Time, first *time.Duration, leave <-chan struct{}) error {
	if err := c.tcp.SetReadBuffer(slowBuffer); err != nil {
		return err
	}
	// A response may be longer in coming than its client stays.
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-leave:
			_ = c.tcp.SetReadDeadline(time.Unix(1, 0))
		case <-stop:
		}
	}()
	h, err := c.ask(ctx, request(c.addr, p.Path))
	if err != nil {
		return fmt.Errorf("no header while it stayed: %w", err)
	}
	body, buf := c.body(h), make([]byte, slowPiece)
	for n := int64(0); n < p.Size; {
		got, err := body.Read(buf)
		if n += int64(got); n > 0 && *first == 0 {
			*first = time.Since(begun)
		}
		select {
		case <-leave:
			return nil
		case <-time.After(slowPause):
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", n, p.Size, err)
		}
	}
	<-leave
	return nil
}
