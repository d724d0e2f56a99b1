package index

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
)

// held runs f in a bubble with a DB whose next commit waits until let is called. n counts
// the commits.
func held(t *testing.T, f func(t *testing.T, db *DB, n *atomic.Int64, let func())) {
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := optionsIn(t, folder)
		gate := make(chan struct{})
		n := commits(o, func(n int64) error {
			if n == 1 {
				<-gate
			}
			return nil
		})
		db, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		first := later(db, func(tx *Tx) error { tx.Put(inB, []byte("first"), nil); return nil })
		synctest.Wait()
		f(t, db, n, func() { close(gate) })
		if err := first(); err != nil {
			t.Errorf("the first change: %v", err)
		}
	})
}

// later calls Update on a goroutine. The function that it returns waits for the result.
func later(db *DB, do func(tx *Tx) error) func() error {
	done := make(chan error, 1)
	go func() { done <- db.Update(do) }()
	return func() error { return <-done }
}

func TestChangesThatWaitShareACommit(t *testing.T) {
	for _, c := range []struct{ changes, commits int }{{1, 2}, {100, 2}, {maxBatch, 2}, {maxBatch + 1, 3}} {
		held(t, func(t *testing.T, db *DB, n *atomic.Int64, let func()) {
			var results []func() error
			for i := range c.changes {
				results = append(results, later(db, func(tx *Tx) error { tx.Put(inA, fmt.Appendf(nil, "%05d", i), nil); return nil }))
			}
			synctest.Wait()
			let()
			for _, result := range results {
				if err := result(); err != nil {
					t.Error(err)
				}
			}
			if got := n.Load(); got != int64(c.commits) {
				t.Errorf("%d changes that waited: %d commits, want %d", c.changes, got, c.commits)
			}
			if got := len(strings.Fields(entries(t, db, inA, "", ""))); got != c.changes {
				t.Errorf("%d entries of %d changes", got, c.changes)
			}
		})
	}
}

func TestChangesAreDoneInTheirOrder(t *testing.T) {
	held(t, func(t *testing.T, db *DB, _ *atomic.Int64, let func()) {
		const changes = 30
		var results []func() error
		var order string
		for i := range changes {
			order += fmt.Sprint(i, ";")
			results = append(results, later(db, func(tx *Tx) error {
				tx.Put(inA, []byte("order"), fmt.Appendf(nil, "%s%d;", tx.Get(inA, []byte("order")), i))
				return nil
			}))
			synctest.Wait() // it is in the queue
		}
		let()
		for _, result := range results {
			if err := result(); err != nil {
				t.Error(err)
			}
		}
		want(t, db, inA, "order="+order)
	})
}

// Among changes that share a transaction there is one that refuses, and there are two
// that bbolt refuses to write.
func TestAChangeThatFailsHarmsNoOther(t *testing.T) {
	mine := errors.New("mine")
	held(t, func(t *testing.T, db *DB, n *atomic.Int64, let func()) {
		count := func(tx *Tx) { // shows whether a change was done twice
			tx.Put(inA, []byte("count"), fmt.Appendf(nil, "%sx", tx.Get(inA, []byte("count"))))
		}
		good := func(tx *Tx) error { count(tx); return nil }
		results := []func() error{
			later(db, good),
			later(db, func(tx *Tx) error { return mine }),
			later(db, good),
			later(db, func(tx *Tx) error { count(tx); tx.Put(inA, make([]byte, 1<<15+1), nil); return nil }),
			later(db, good),
			later(db, func(tx *Tx) error { tx.Put(inA, nil, []byte("no key")); count(tx); return nil }),
			later(db, good),
		}
		synctest.Wait()
		let()
		for i, result := range results {
			switch err := result(); {
			case i == 1:
				if err != mine {
					t.Errorf("a change that refuses: %v", err)
				}
			case i%2 == 0 && err != nil:
				t.Errorf("change %d: %v", i, err)
			case i%2 != 0 && (err == nil || errors.Is(err, ErrDamaged)):
				t.Errorf("change %d, which cannot be written: %v", i, err)
			}
		}
		want(t, db, inA, "count=xxxx")
		if n.Load() != 2 {
			t.Errorf("%d commits", n.Load())
		}
	})
}

func TestAChangeThatWritesNothingCostsNoCommit(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	n := commits(o, nil)
	db := open(t, o)
	put(t, db, inA, "a=1")
	before := n.Load()
	for _, do := range []func(tx *Tx) error{
		func(tx *Tx) error { return nil },
		func(tx *Tx) error { tx.Get(inA, []byte("a")); return nil },
		func(tx *Tx) error { tx.Delete(inA, []byte("none")); return nil },
		func(tx *Tx) error { return syscall.EINVAL },
	} {
		_ = db.Update(do)
		_ = db.Free(do)
	}
	if got := n.Load(); got != before || before != 1 {
		t.Errorf("%d commits, then %d", before, got)
	}
}

func TestCloseWaitsForWhatWasHandedOver(t *testing.T) {
	var o Options
	held(t, func(t *testing.T, db *DB, _ *atomic.Int64, let func()) {
		o = db.o
		second := later(db, func(tx *Tx) error { tx.Put(inA, []byte("a"), []byte("1")); return nil })
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- db.Close() }()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Errorf("Close did not wait: %v", err)
		default:
		}
		if err := db.Update(func(*Tx) error { t.Error("done after Close"); return nil }); !errors.Is(err, ErrClosed) {
			t.Errorf("Update after Close: %v", err)
		}
		let()
		if err := errors.Join(second(), <-closed); err != nil {
			t.Error(err)
		}
	})
	o.Disk.Step = nil
	want(t, open(t, o), inA, "a=1")
}

func TestNothingAfterClose(t *testing.T) {
	db := open(t, optionsIn(t, t.TempDir()))
	put(t, db, inA, "a=1")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	never := func(*Tx) error { t.Error("called after Close"); return nil }
	for name, err := range map[string]error{
		"View": db.View(never), "Update": db.Update(never), "Free": db.Free(never),
		"Check": check(db, func(fault string) { t.Error(fault) }),
		"Size":  func() error { _, err := db.Size(); return err }(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

// TestCheckBesideChanges is for the race detector, too: bbolt's check reads the list of
// free pages, which changes use.
func TestCheckBesideChanges(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	o.Disk.NoSync = true
	db := open(t, o)
	err := db.Update(func(tx *Tx) error {
		for i := range 3 * checkPage {
			tx.Put(inA, fmt.Appendf(nil, "%05d", i), make([]byte, 100))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- func() error {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return nil
				default:
				}
				if err := db.Update(func(tx *Tx) error {
					tx.Put(inB, []byte("b"), make([]byte, i%50*1000))
					tx.Delete(inA, fmt.Appendf(nil, "%05d", i*10))
					return nil
				}); err != nil {
					return err
				}
			}
		}()
	}()
	for range 5 {
		if err := check(db, func(fault string) { t.Error(fault) }); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
