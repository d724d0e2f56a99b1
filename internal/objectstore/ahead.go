package objectstore

import (
	"context"
	"iter"
)

// window is how many entries of a list are read at once.
const window = 16

// answer is what a list has at one place.
type answer[V any] struct {
	value V
	err   error
}

// ahead yields what read returns for each of the keys, in their order, and reads ahead of who
// takes it. An error of the keys is the last that it yields.
func ahead[K, V any](ctx context.Context, keys func(context.Context) iter.Seq2[K, error], read func(context.Context, K) (V, error)) iter.Seq2[V, error] {
	return func(yield func(V, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		queue := make(chan chan answer[V], window)
		go func() {
			defer close(queue)
			for k, err := range keys(ctx) {
				one := make(chan answer[V], 1)
				select {
				case queue <- one:
				case <-ctx.Done():
					return
				}
				if err != nil {
					one <- answer[V]{err: err}
					return
				}
				go func() {
					v, err := read(ctx, k)
					one <- answer[V]{v, err}
				}()
			}
		}()
		defer func() { // all goroutines have ended when the list has
			cancel()
			for one := range queue {
				<-one
			}
		}()
		for one := range queue {
			a := <-one
			if a.err == nil {
				a.err = ctx.Err() // what was read ahead comes too late
			}
			if !yield(a.value, a.err) {
				return
			}
			if a.err != nil && ctx.Err() != nil {
				return // every further answer is the same error
			}
		}
		if err := ctx.Err(); err != nil {
			yield(*new(V), err)
		}
	}
}
