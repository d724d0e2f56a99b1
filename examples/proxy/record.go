package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
)

// record keeps the history of a cache until the function that it returns is called, which
// waits for the end of that, so that the store is not asked after it is closed.
func (l *live) record(ctx context.Context, c *cache.Cache, in store.Store) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.recorder.Run(ctx, c.Stats, sizeOf(in))
	}()
	return func() {
		cancel()
		<-done
	}
}

// credentialSets returns the credential sets that are in force.
func (l *live) credentialSets() []*auth.CredentialSet {
	return slices.Collect(maps.Values(l.latest.Load().credentials))
}

// sizeOf returns what tells the size of a store.
func sizeOf(in store.Store) func(context.Context) (store.Size, error) {
	sizer, ok := store.As[store.Sizer](in)
	if !ok {
		return nil
	}
	return func(ctx context.Context) (store.Size, error) {
		size, err := sizer.Size(ctx)
		if err != nil {
			return size, fmt.Errorf("the size of the store: %w", err)
		}
		return size, nil
	}
}
