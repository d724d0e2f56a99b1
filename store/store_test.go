package store_test

import (
	"testing"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/storetest"
)

func TestMem(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return new(store.Mem) })
}

func TestDir(t *testing.T) {
	t.Parallel() // it waits for the disk
	storetest.Run(t, func(t *testing.T) store.Store { return openDir(t, t.TempDir()) })
}

func openDir(t testing.TB, path string) *store.Dir {
	t.Helper()
	return closed(t)(store.OpenDir(path))
}

// closed closes a store that was opened at the end of the test.
func closed(t testing.TB) func(*store.Dir, error) *store.Dir {
	return func(d *store.Dir, err error) *store.Dir {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return d
	}
}
