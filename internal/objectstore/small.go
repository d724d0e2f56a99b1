package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pullthrough/pullthrough/internal/backoff"
)

// This file reads and writes objects that fit into memory.

// maxSmall bounds links, tags and records. A link has the annotations of a manifest, which
// has 4 MiB at most.
const maxSmall = 32 << 20

// attempts is how often an answer that breaks off is asked for again, and a write that
// others are in the way of is tried.
const attempts = 5

// again is the pause before that.
var again = backoff.Backoff{First: 50 * time.Millisecond, Longest: time.Second, Jitter: 1}

// sleep waits after n failures, and returns the error of ctx if that ends first.
func sleep(ctx context.Context, n int) error {
	t := time.NewTimer(again.Pause(n))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read returns the bytes of an object, and the condition that it is still this version.
func (s *Store) read(ctx context.Context, key string) ([]byte, Condition, error) {
	for n := 0; ; n++ {
		o, body, err := s.bucket.Get(ctx, key, 0)
		if err != nil {
			return nil, "", err
		}
		p, err := s.readBody(key, o, body)
		if err == nil {
			return p, IfMatch(o.ETag), nil
		}
		if errors.Is(err, errLarge) || n+1 == attempts {
			return nil, "", err
		}
		if err := sleep(ctx, n); err != nil {
			return nil, "", err
		}
	}
}

var errLarge = errors.New("too large")

func (s *Store) readBody(key string, o Object, body io.ReadCloser) ([]byte, error) {
	defer body.Close()
	if o.Size < 0 || o.Size > maxSmall {
		return nil, fmt.Errorf("%s/%s: %w: %d bytes", s.bucket, key, errLarge, o.Size)
	}
	p := make([]byte, o.Size)
	if _, err := io.ReadFull(body, p); err != nil {
		return nil, fmt.Errorf("%s/%s: %w", s.bucket, key, err)
	}
	return p, nil
}

// mark writes an object that says all by being there, unless it is.
func (s *Store) mark(ctx context.Context, key string, data []byte) error {
	err := s.bucket.Put(ctx, key, data, IfAbsent)
	if errors.Is(err, ErrChanged) {
		return nil
	}
	return err
}
