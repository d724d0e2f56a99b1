package store_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

// countingStore counts what is written. It embeds the interface and not, say,
// *store.Dir, whose Spool would write blobs past Create.
type countingStore struct {
	store.Store
	writes atomic.Int64
}

// Create counts and lets the store behind do the work.
func (c *countingStore) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	c.writes.Add(1)
	return c.Store.Create(ctx, repo, want)
}

// Unwrap lets As find the abilities of the store behind.
func (c *countingStore) Unwrap() store.Store { return c.Store }

// A wrapper sees every write, and keeps the abilities that only add something.
func ExampleUnwrapper() {
	ctx := context.Background()
	counting := &countingStore{Store: new(store.Mem)}

	var s store.Store = counting // as the Store of a cache.Cache
	for _, text := range []string{"a config", "a layer"} {
		want := store.Info{Source: "https://registry.example/team/app"}
		want.Digest, want.Size = digest.FromString(text), int64(len(text))
		w, err := s.Create(ctx, "team/app", want)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := io.Copy(w, strings.NewReader(text)); err != nil {
			log.Fatal(err)
		}
		if err := w.Commit(ctx); err != nil {
			log.Fatal(err)
		}
		w.Close()
	}
	_, deletes := store.As[store.Deleter](s)
	_, spools := store.As[store.Spooler](s)
	fmt.Println("writes:", counting.writes.Load())
	fmt.Println("Deleter:", deletes)
	fmt.Println("Spooler:", spools) // it would bypass Create
	// Output:
	// writes: 2
	// Deleter: true
	// Spooler: false
}
