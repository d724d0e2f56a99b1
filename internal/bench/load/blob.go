package load

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/registry"
)

// Times says how long a pull took.
type Times struct {
	// FirstByte is the time until the first byte of the last part, and Whole that until
	// its end. They begin with the first request, when the connection stands.
	FirstByte, Whole time.Duration
}

// Pull pulls parts on a connection of its own, one after the other as clients do. It
// checks every byte of all but the last one, which is large, and the length of that.
func Pull(ctx context.Context, addr string, parts ...registry.Part) (Times, error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return Times{}, err
	}
	defer c.close()
	return c.pull(ctx, parts, time.Now())
}

// pull pulls parts and discards the last one. The times are those since begun.
func (c *conn) pull(ctx context.Context, parts []registry.Part, begun time.Time) (t Times, err error) {
	last := len(parts) - 1
	for _, p := range parts[:last] {
		if err := c.check(ctx, p); err != nil {
			return t, err
		}
	}
	t, err = c.pullLarge(ctx, parts[last], begun)
	if err != nil {
		return t, fmt.Errorf("%s: %w", parts[last].Path, err)
	}
	return t, nil
}

func (c *conn) pullLarge(ctx context.Context, p registry.Part, begun time.Time) (t Times, err error) {
	h, err := c.ask(ctx, request(c.addr, p.Path))
	if err != nil {
		return t, err
	}
	if _, err := c.br.Peek(1); err != nil {
		return t, err
	}
	t.FirstByte = time.Since(begun)
	n, err := c.discard(h)
	t.Whole = time.Since(begun)
	if err != nil {
		return t, fmt.Errorf("after %d of %d bytes: %w", n, p.Size, err)
	}
	if n != p.Size {
		return t, fmt.Errorf("%d bytes came, and it has %d", n, p.Size)
	}
	return t, nil
}

// Verify pulls a part and checks its digest.
func Verify(ctx context.Context, addr string, p registry.Part) error {
	c, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer c.close()
	h, err := c.ask(ctx, request(addr, p.Path))
	if err != nil {
		return fmt.Errorf("%s: %w", p.Path, err)
	}
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, c.body(h), make([]byte, 256<<10)); err != nil {
		return fmt.Errorf("%s: %w", p.Path, err)
	}
	return match(p, sum.Sum(nil))
}

// match compares a digest with what it must be.
func match(p registry.Part, sum []byte) error {
	if got := "sha256:" + hex.EncodeToString(sum); got != p.Digest {
		return fmt.Errorf("%s: wrong bytes: %s, want %s", p.Path, got, p.Digest)
	}
	return nil
}

// Together has n clients pull the same parts at once, as Pull does. It returns the median of their first bytes,
// and when the last of them was done.
func Together(ctx context.Context, addr string, parts []registry.Part, n int) (Times, error) {
	conns, err := dialAll(ctx, addr, n)
	if err != nil {
		return Times{}, err
	}
	defer closeAll(conns)
	times := make([]Times, n)
	errs := make([]error, n)
	begun := time.Now()
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() { times[i], errs[i] = c.pull(ctx, parts, begun) })
	}
	wg.Wait()
	var first []time.Duration
	var last time.Duration
	for i, t := range times {
		if errs[i] != nil {
			return Times{}, fmt.Errorf("client %d of %d: %w", i+1, n, errs[i])
		}
		first, last = append(first, t.FirstByte), max(last, t.Whole)
	}
	return Times{FirstByte: Median(first), Whole: last}, nil
}

// dialAll makes n connections.
func dialAll(ctx context.Context, addr string, n int) ([]*conn, error) {
	var conns []*conn
	for range n {
		c, err := dial(ctx, addr)
		if err != nil {
			closeAll(conns)
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func closeAll(conns []*conn) {
	for _, c := range conns {
		c.close()
	}
}

// Median returns the middle one, or the mean of the two in the middle. Without any it
// is 0.
func Median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
