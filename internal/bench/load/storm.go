package load

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/registry"
)

// Storm has workers pull images, each of which is the parts of one pull, and checks
// every byte. It returns how long all of them took.
func Storm(ctx context.Context, addr string, images [][]registry.Part, workers int) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conns, err := dialAll(ctx, addr, workers)
	if err != nil {
		return 0, err
	}
	defer closeAll(conns)
	var next atomic.Int64
	var wg sync.WaitGroup
	begun := time.Now()
	for _, c := range conns {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(len(images)) && ctx.Err() == nil; i = next.Add(1) {
				for _, p := range images[i-1] {
					if err := c.check(ctx, p); err != nil {
						cancel(err) // the first one counts, and ends the others
						return
					}
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begun)
	return took, context.Cause(ctx)
}

// check pulls something small and checks its bytes.
func (c *conn) check(ctx context.Context, p registry.Part) error {
	h, err := c.ask(ctx, request(c.addr, p.Path))
	if err != nil {
		return fmt.Errorf("%s: %w", p.Path, err)
	}
	body, err := c.small(h, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Path, err)
	}
	sum := sha256.Sum256(body)
	return match(p, sum[:])
}

// Rate has so many connections ask for the same again and again for some time, and
// compares each response with want. It returns how many there were and how long that took.
func Rate(ctx context.Context, addr, path string, want []byte, conns int, long time.Duration) (int64, time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	all, err := dialAll(ctx, addr, conns)
	if err != nil {
		return 0, 0, err
	}
	defer closeAll(all)
	var count atomic.Int64
	var wg sync.WaitGroup
	req, begun := request(addr, path), time.Now()
	for _, c := range all {
		wg.Go(func() {
			buf := make([]byte, len(want))
			n := int64(0)
			defer func() { count.Add(n) }()
			for ; time.Since(begun) < long && ctx.Err() == nil; n++ {
				h, err := c.ask(ctx, req)
				if err == nil {
					buf, err = c.small(h, buf)
				}
				if err == nil && !bytes.Equal(buf, want) {
					err = fmt.Errorf("wrong bytes: %.60q", buf)
				}
				if err != nil {
					cancel(fmt.Errorf("%s: %w", path, err))
					return
				}
			}
		})
	}
	wg.Wait()
	return count.Load(), time.Since(begun), context.Cause(ctx)
}

// Latency pulls parts one after the other on one connection, checks every byte, and
// returns the median of their times.
func Latency(ctx context.Context, addr string, parts []registry.Part) (time.Duration, error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return 0, err
	}
	defer c.close()
	times := make([]time.Duration, len(parts))
	for i, p := range parts {
		begun := time.Now()
		if err := c.check(ctx, p); err != nil {
			return 0, err
		}
		times[i] = time.Since(begun)
	}
	return Median(times), nil
}
