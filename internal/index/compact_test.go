package index

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// emptied leaves a file of which most is free, and returns its size.
func emptied(t *testing.T, o Options, left int) int64 {
	t.Helper()
	const entries = 400
	o.Disk.NoSync = true
	db := open(t, o)
	for _, do := range []func(tx *Tx, i int){
		func(tx *Tx, i int) {
			tx.Next(inGrowing, numberKey)
			tx.Put(inA, fmt.Appendf(nil, "%03d", i), make([]byte, 100<<10))
		},
		func(tx *Tx, i int) {
			if i >= left {
				tx.Delete(inA, fmt.Appendf(nil, "%03d", i))
			}
		},
	} {
		if err := db.Update(func(tx *Tx) error {
			for i := range entries {
				do(tx, i)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return sizeOf(t, o.Path)
}

func sizeOf(t testing.TB, path string) int64 {
	t.Helper()
	n, err := durable.Size(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// holds checks what emptied left.
func holds(t *testing.T, db *DB, left int) {
	t.Helper()
	n := 0
	if err := db.View(func(tx *Tx) error {
		for _, value := range tx.Entries(inA, nil, nil) {
			n++
			if len(value) != 100<<10 {
				t.Errorf("an entry has %d bytes", len(value))
			}
		}
		return nil
	}); err != nil || n != left {
		t.Errorf("%d entries, want %d, %v", n, left, err)
	}
	if err := db.Update(func(tx *Tx) error {
		if n := tx.Next(inGrowing, numberKey); n != 401 {
			t.Errorf("the next number is %d", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := check(db, func(fault string) { t.Error(fault) }); err != nil {
		t.Error(err)
	}
}

func TestOpenCompactsWhatIsMostlyFree(t *testing.T) {
	for left, smaller := range map[int]bool{10: true, 300: false} {
		o := optionsIn(t, t.TempDir())
		before := emptied(t, o, left)
		o.compactGain = 1 << 20
		db := open(t, o)
		if after := sizeOf(t, o.Path); smaller != (after < before/2) || !smaller && after != before {
			t.Errorf("%d of 400 entries are left: %d bytes, before %d", left, after, before)
		}
		holds(t, db, left)
		if names, err := os.ReadDir(o.Disk.Temp); err != nil || len(names) != 0 {
			t.Errorf("temporary files: %v, %v", names, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	o := optionsIn(t, t.TempDir())
	before := emptied(t, o, 10)
	open(t, o)
	if after := sizeOf(t, o.Path); after < before {
		t.Errorf("a small file was compacted, from %d bytes to %d", before, after)
	}
}

// TestNoRoomToCompact: the file stays as it is, and opens.
func TestNoRoomToCompact(t *testing.T) {
	for _, at := range []durable.Op{durable.OpCreate, durable.OpRename} {
		o := optionsIn(t, t.TempDir())
		before := emptied(t, o, 10)
		o.compactGain = 1 << 20
		o.Disk.Step = func(op durable.Op, path, from string) error {
			_, err := os.Lstat(marker(o.Path))
			if opening := err == nil; opening && op == at && (op == durable.OpCreate || path == o.Path) {
				return &fs.PathError{Op: string(op), Path: path, Err: syscall.ENOSPC}
			}
			return nil
		}
		db, err := Open(o)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		if after := sizeOf(t, o.Path); after != before {
			t.Errorf("%s: %d bytes, before %d", at, after, before)
		}
		o.Disk.Step = nil
		holds(t, db, 10)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if names, err := os.ReadDir(o.Disk.Temp); err != nil || len(names) != 0 {
			t.Errorf("%s: temporary files: %v, %v", at, names, err)
		}
	}
}

// TestKilledWhileCompacting: until the rename, the former file counts.
func TestKilledWhileCompacting(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	emptied(t, o, 10)
	o.compactGain = 1 << 20
	killed := errors.New("killed")
	o.Disk.Step = func(op durable.Op, path, _ string) error {
		if op == durable.OpRename && path == o.Path || op == durable.OpRemove {
			return killed
		}
		return nil
	}
	if _, err := Open(o); !errors.Is(err, killed) {
		t.Fatalf("Open: %v", err)
	}
	o.Disk.Step = nil
	db := open(t, o)
	holds(t, db, 10)
}
