// Package storetest checks implementations of [store.Store]: those of package store, and
// your own.
//
//	func TestMyStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return newStore(t.TempDir()) })
//	}
//
// Each check is a law in words, and a function that returns an error if the store breaks
// it. Checks of abilities that a store does not have are skipped.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// A Check is one law that every store obeys.
type Check struct {
	Name string
	// Law is the law in a sentence.
	Law string
	// Func returns nil if the store obeys the law, an error that says how it breaks
	// the law, or one that wraps [errors.ErrUnsupported] if the store lacks the
	// ability. s must be empty and used by nothing else. A call that blocks is noticed
	// when ctx ends, and after 5 minutes at the latest.
	Func func(ctx context.Context, s store.Store) error
}

// Checks returns all checks.
func Checks() []Check {
	return slices.Concat(contentChecks(), adoptChecks(), tagChecks(), deleteChecks(),
		spoolChecks(), checkpointChecks(), sizeChecks(), recordChecks(), listChecks(), blobListChecks(), batchChecks(), useChecks(), spaceChecks())
}

// Run runs every check, each as a subtest with a store of its own from open.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range Checks() {
		t.Run(c.Name, func(t *testing.T) {
			err := c.Func(t.Context(), open(t))
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip(err)
			}
			if err != nil {
				t.Errorf("%v\nThe law: %s", err, c.Law)
			}
		})
	}
}

// longest is how long a check may take, on a busy disk too.
const longest = 5 * time.Minute

// kit is a store under check. Its methods panic with a failure if the store breaks a law,
// which keeps the checks short.
type kit struct {
	ctx context.Context
	s   store.Store
}

type failure struct{ error }

// law turns a function that panics with failures into the Func of a check.
func law(f func(k *kit)) func(context.Context, store.Store) error {
	return func(ctx context.Context, s store.Store) (err error) {
		defer func() {
			switch r := recover().(type) {
			case nil:
			case failure:
				err = r.error
			default:
				panic(r)
			}
		}()
		ctx, cancel := context.WithTimeout(ctx, longest)
		defer cancel()
		f(&kit{ctx, s})
		return nil
	}
}

// catch runs f and returns its failure. It may be called on any goroutine.
func (k *kit) catch(f func()) error {
	return law(func(*kit) { f() })(k.ctx, k.s)
}

func failf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// ok fails on an error.
func ok(err error, format string, args ...any) {
	if err != nil {
		failf("%s: %w", fmt.Sprintf(format, args...), err)
	}
}

// is fails unless err is want.
func is(err, want error, format string, args ...any) {
	if !errors.Is(err, want) {
		failf("%s: got error %v, want %v", fmt.Sprintf(format, args...), err, want)
	}
}

// need returns an optional ability of the store, or skips the check.
func need[T any](k *kit) T {
	ability, ok := store.As[T](k.s)
	if !ok {
		panic(failure{fmt.Errorf("%w: no %T", errors.ErrUnsupported, *new(*T))})
	}
	return ability
}

// together runs f n times concurrently, and fails with the first failure.
func (k *kit) together(n int, f func(i int)) {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- k.catch(func() { f(i) }) }()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		panic(failure{first})
	}
}

// unblocked fails if f does not end.
func (k *kit) unblocked(what string, f func()) {
	done := make(chan error, 1)
	go func() { done <- k.catch(f) }()
	select {
	case err := <-done:
		if err != nil {
			panic(failure{err})
		}
	case <-k.ctx.Done():
		failf("%s: blocked", what)
	}
}
