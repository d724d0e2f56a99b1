package azure

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"
)

// shared lets concurrent callers with one key share one call. The call has a context of its
// own, without values of any caller, and goes on when its callers have given up.
type shared[T any] struct{ group singleflight.Group }

func (s *shared[T]) do(ctx context.Context, key string, timeout time.Duration, call func(context.Context) (T, error)) (T, error) {
	select {
	case r := <-s.start(key, timeout, call):
		value, _ := r.Val.(T)
		return value, r.Err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// start begins the call, or joins one that is under way, without waiting for it.
func (s *shared[T]) start(key string, timeout time.Duration, call func(context.Context) (T, error)) <-chan singleflight.Result {
	return s.group.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		return call(ctx)
	})
}
