package azure

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"
)

// shared asks a question once for all who want to know at the same time. The
// question has a context of its own, without values of any request, and goes on
// when those who asked have left.
type shared[T any] struct{ group singleflight.Group }

func (s *shared[T]) do(ctx context.Context, key string, timeout time.Duration, ask func(context.Context) (T, error)) (T, error) {
	select {
	case r := <-s.start(key, timeout, ask):
		value, _ := r.Val.(T)
		return value, r.Err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// start asks without waiting.
func (s *shared[T]) start(key string, timeout time.Duration, ask func(context.Context) (T, error)) <-chan singleflight.Result {
	return s.group.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		return ask(ctx)
	})
}
