package objectstore_test

import (
	"testing"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/internal/objectstore/buckettest"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/storetest"
)

func newStore(t *testing.T, b objectstore.Bucket) *objectstore.Store {
	t.Helper()
	s, err := objectstore.New(objectstore.Config{Bucket: b, Prefix: "some/prefix", Replica: "replica-1"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return newStore(t, new(buckettest.Mem)) })
}
