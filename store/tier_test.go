package store_test

import (
	"testing"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/storetest"
)

// newTier returns a Tier that is closed before its stores are.
func newTier(t testing.TB, near, far store.Store) *store.Tier {
	t.Helper()
	tier := &store.Tier{Near: near, Far: far}
	t.Cleanup(func() {
		if err := tier.Close(); err != nil {
			t.Error(err)
		}
	})
	return tier
}

func TestTier(t *testing.T) {
	t.Run("Dir over Mem", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store { return newTier(t, openDir(t, t.TempDir()), new(store.Mem)) })
	})
	t.Run("Dir over Dir", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			return newTier(t, openDir(t, t.TempDir()), openDir(t, t.TempDir()))
		})
	})
	t.Run("Mem over Dir", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store { return newTier(t, new(store.Mem), openDir(t, t.TempDir())) })
	})
}
