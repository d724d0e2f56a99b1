package index

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// harmed makes a file with two large buckets, has do harm it, and returns what opens it.
func harmed(t *testing.T, do func(f *os.File, s *shape, first, second int64)) Options {
	t.Helper()
	o := inFolder(t, t.TempDir())
	db := open(t, o)
	fill(t, db, 0, 2000)
	fill(t, db, 1, 2000)
	if err := db.Free(func(tx *Tx) error { tx.Delete(0, key(1)); return nil }); err != nil {
		t.Fatal(err)
	}
	var roots [2]int64
	err := db.view(func(tx *bolt.Tx) error {
		for i, name := range o.Buckets {
			roots[i] = int64(tx.Bucket([]byte(name)).Root())
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(o.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	do(f, newShape(f), roots[0], roots[1])
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return o
}

func putNumber(t *testing.T, f *os.File, at int64, n uint64) {
	t.Helper()
	if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, n), at); err != nil {
		t.Fatal(err)
	}
}

// wantRebuilt checks that a file is damaged, and that its second bucket is kept.
func wantRebuilt(t *testing.T, o Options, as error) {
	t.Helper()
	db, err := Open(o)
	if !errors.Is(err, ErrDamaged) || !errors.Is(err, as) {
		if db != nil {
			db.Close()
		}
		t.Fatalf("Open: %v, want %v", err, as)
	}
	if lost, err := Rebuild(o, 1); err != nil || lost != nil {
		t.Fatalf("Rebuild: %v, lost %v", err, lost)
	}
	db = open(t, o)
	if n, none := count(t, db, 1), count(t, db, 0); n != 2000 || none != 0 {
		t.Errorf("%d and %d entries", n, none)
	}
}

// A page below itself would use up the stack of the goroutine that follows it.
func TestAPageBelowItself(t *testing.T) {
	wantRebuilt(t, harmed(t, func(f *os.File, s *shape, first, _ int64) {
		putNumber(t, f, first*s.pageSize+pageHead+3*elemSize+8, uint64(first))
	}), errLoop)
}

// A page in use that is listed as free would be written over, and with it entries that
// nothing has harmed.
func TestAPageInUseListedAsFree(t *testing.T) {
	for _, at := range []int64{0, pageHead} { // the number of the list's own page, and one in it
		wantRebuilt(t, harmed(t, func(f *os.File, s *shape, _, second int64) {
			if err := s.walk(uint64(second)); err != nil {
				t.Fatal(err)
			}
			for leaf := range s.leaves {
				putNumber(t, f, int64(s.free)*s.pageSize+at, leaf)
				break
			}
		}), errFree)
	}
}

// A bucket that is gone is damage, not an empty one: its numbers would begin anew.
func TestABucketThatIsGone(t *testing.T) {
	o := inFolder(t, t.TempDir())
	db := open(t, o)
	fill(t, db, 1, 2000)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := bolt.Open(o.Path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = b.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("one")) })
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	wantRebuilt(t, o, ErrDamaged)
}
