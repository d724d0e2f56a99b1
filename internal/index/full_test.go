package index

import (
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// fullDisk is a disk on which transactions have room only while the spare file is gone,
// as long as it is full.
type fullDisk struct {
	o    Options
	full atomic.Bool
}

func newFullDisk(t *testing.T, folder string) *fullDisk {
	d := &fullDisk{o: optionsIn(t, folder)}
	d.o.Disk.Step = func(op durable.Op, path, _ string) error {
		if !d.full.Load() {
			return nil
		}
		switch op {
		case durable.OpWrite, durable.OpCreate: // of another spare file
			return &fs.PathError{Op: string(op), Path: path, Err: syscall.ENOSPC}
		case durable.OpCommit:
			if d.spare() {
				return &fs.PathError{Op: string(op), Path: path, Err: syscall.ENOSPC}
			}
		}
		return nil
	}
	return d
}

func (d *fullDisk) spare() bool {
	st, err := os.Stat(d.o.Spare)
	return err == nil && st.Size() == spareBytes
}

func deletes(key string) func(*Tx) error {
	return func(tx *Tx) error { tx.Delete(inA, []byte(key)); return nil }
}

func puts(key string) func(*Tx) error {
	return func(tx *Tx) error { tx.Put(inA, []byte(key), nil); return nil }
}

func TestFullDiskCanBeCleared(t *testing.T) {
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newFullDisk(t, folder)
		db := open(t, d.o)
		defer db.Close()
		put(t, db, inA, "a=1", "b=2", "c=3")
		if !d.spare() {
			t.Fatal("there is no spare file")
		}
		d.full.Store(true)
		for range 3 {
			if err := db.Update(puts("more")); !durable.IsFull(err) || errors.Is(err, ErrDamaged) {
				t.Errorf("Update on a full disk: %v", err)
			}
		}
		if !d.spare() {
			t.Error("what could not be written has spent the spare file")
		}
		want(t, db, inA, "a=1 b=2 c=3")
		if err := db.Free(deletes("a")); err != nil {
			t.Errorf("Free on a full disk: %v", err)
		}
		if d.spare() {
			t.Error("the spare file is still there")
		}
		want(t, db, inA, "b=2 c=3")
		time.Sleep(2 * spareEvery)
		if err := db.Free(deletes("b")); err != nil {
			t.Errorf("Free without the spare file, where there is room: %v", err)
		}
		if d.spare() {
			t.Error("there is a spare file on a full disk")
		}
		d.full.Store(false)
		put(t, db, inA, "d=4")
		if d.spare() {
			t.Error("the spare file was tried again at once")
		}
		time.Sleep(2 * spareEvery)
		put(t, db, inA, "e=5")
		if !d.spare() {
			t.Error("the spare file was not made again")
		}
		d.full.Store(true)
		if err := db.Free(deletes("c")); err != nil {
			t.Errorf("Free on a disk that is full again: %v", err)
		}
		want(t, db, inA, "d=4 e=5")
	})
}

// Changes that free and others share a transaction, which the disk has no room for.
func TestFullDiskRefusesOnlyWhatTakesRoom(t *testing.T) {
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newFullDisk(t, folder)
		db := open(t, d.o)
		defer db.Close()
		put(t, db, inA, "a=1", "b=2", "c=3")
		d.full.Store(true)
		gate := make(chan struct{})
		step := d.o.Disk.Step
		d.o.Disk.Step = func(op durable.Op, path, from string) error {
			<-gate
			return step(op, path, from)
		}
		first := later(db, func(tx *Tx) error { tx.Put(inB, []byte("first"), nil); return nil })
		synctest.Wait()
		mine := errors.New("mine")
		free := func(do func(*Tx) error) func() error {
			done := make(chan error, 1)
			go func() { done <- db.Free(do) }()
			return func() error { return <-done }
		}
		freeA, putMore, freeB := free(deletes("a")), later(db, puts("more")), free(deletes("b"))
		refuses := free(func(*Tx) error { return mine })
		synctest.Wait()
		close(gate)
		for what, err := range map[string]error{"the first change": first(), "a change that takes room": putMore()} {
			if !durable.IsFull(err) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := errors.Join(freeA(), freeB()); err != nil {
			t.Error(err)
		}
		if err := refuses(); err != mine {
			t.Errorf("a change that refuses: %v", err)
		}
		want(t, db, inA, "c=3")
		want(t, db, inB, "")
	})
}

func TestFullDiskWithoutSpare(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	spare := o.Spare
	o.Spare = ""
	db := open(t, o)
	put(t, db, inA, "a=1")
	full := true
	commits(o, func(int64) error {
		if full {
			return &fs.PathError{Op: "write", Err: syscall.EDQUOT}
		}
		return nil
	})
	if err := db.Free(deletes("a")); !durable.IsFull(err) {
		t.Errorf("Free: %v", err)
	}
	want(t, db, inA, "a=1")
	full = false
	if err := db.Free(deletes("a")); err != nil {
		t.Errorf("Free: %v", err)
	}
	want(t, db, inA, "")
	if _, err := os.Lstat(spare); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a spare file that nobody wanted: %v", err)
	}
}
