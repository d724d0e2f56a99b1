package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// keepPart leaves half of a spool, and returns what it is.
func keepPart(t testing.TB, d *Dir, text string, n int) (Info, []byte) {
	t.Helper()
	info, data := content1(text, n)
	if err := leavePart(t.Context(), d, info, data); err != nil {
		t.Fatal(err)
	}
	return info, data
}

func leavePart(ctx context.Context, d *Dir, info Info, data []byte) error {
	s, err := d.Spool(ctx, "a", info)
	if err != nil {
		return err
	}
	if _, err := s.WriteAt(data[:len(data)/2], 0); err != nil {
		return errors.Join(err, s.Close())
	}
	c := s.(Checkpointer)
	if err := c.Checkpoint(Progress{Front: info.Size / 2, Size: info.Size}); err != nil {
		return errors.Join(err, s.Close())
	}
	return c.Keep()
}

// partsOf returns which parts are in partial/.
func partsOf(t *testing.T, d *Dir, infos ...Info) string {
	t.Helper()
	names, err := readNames(d.path("partial"))
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for i, info := range infos {
		name := keyOf("a", info).name()
		vouched := false
		if err := d.view(func(t dirTx) error { vouched = t.Has(inPartial, []byte(name)); return nil }); errors.Is(err, errClosed) {
			vouched = slices.Contains(names, name+partSuffix)
		} else if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(names, name+partSuffix) != vouched {
			t.Errorf("half of part %d is there: %q", i, names)
		}
		if slices.Contains(names, name+partSuffix) {
			have = append(have, fmt.Sprint(i))
		}
	}
	if len(names) != len(have) {
		t.Errorf("more is there: %q", names)
	}
	return strings.Join(have, " ")
}

func TestPartialIsClearedWhileRunning(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d, err := OpenDir(path)
		if err != nil {
			t.Fatal(err)
		}
		old, _ := keepPart(t, d, "old", 1000)
		open, _ := keepPart(t, d, "open", 300<<10)
		time.Sleep(12 * time.Hour)
		s, err := d.Spool(t.Context(), "a", open)
		if err != nil {
			t.Fatal(err)
		}
		young, _ := keepPart(t, d, "young", 300<<10)
		time.Sleep(14 * time.Hour) // nobody calls
		synctest.Wait()
		if got := partsOf(t, d, old, open, young); got != "1 2" {
			t.Errorf("after a day: %q", got)
		}
		if err := s.(Checkpointer).Keep(); err != nil { // without progress
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := partsOf(t, d, old, open, young); got != "2" {
			t.Errorf("after the part was left: %q", got)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if got := partsOf(t, d, old, open, young); got != "2" {
			t.Errorf("a store that is closed went on: %q", got)
		}
	})
}

func TestSweepFreesResidue(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newDir(t, path)
		old, _ := keepPart(t, d, "old", 300<<10)
		if n, err := d.Sweep(t.Context()); n != 0 || err != nil {
			t.Errorf("Sweep of what is young: %d, %v", n, err)
		}
		time.Sleep(24*time.Hour + time.Minute) // before the store looks itself
		open, _ := keepPart(t, d, "open", 300<<10)
		if got := partsOf(t, d, old, open); got != "0 1" {
			t.Fatalf("before: %q", got)
		}
		if n, err := d.Sweep(t.Context()); n < 150<<10 || n > 160<<10 || err != nil {
			t.Errorf("Sweep: %d, %v", n, err)
		}
		if got := partsOf(t, d, old, open); got != "1" {
			t.Errorf("after: %q", got)
		}
	})
}

func TestPartialIsBounded(t *testing.T) {
	path := t.TempDir()
	var infos []Info
	for range 2 { // what a former process left counts too
		d, err := OpenDir(path)
		if err != nil {
			t.Fatal(err)
		}
		d.MaxPartial = 3 * minPart
		for range 3 {
			info, _ := keepPart(t, d, fmt.Sprint("part", len(infos)), 1000)
			infos = append(infos, info)
		}
		open, _ := keepPart(t, d, "open", 8*minPart) // larger than the bound alone
		if got := partsOf(t, d, infos...); got != "" {
			t.Errorf("beside a part that is too large: %q", got)
		}
		wantProgress(t, d, open, 0)
		for range 5 {
			info, _ := keepPart(t, d, fmt.Sprint("part", len(infos)), 1000)
			infos = append(infos, info)
		}
		if got, want := partsOf(t, d, infos...), map[int]string{8: "5 6 7", 16: "13 14 15"}[len(infos)]; got != want {
			t.Errorf("left: %q, want %q", got, want)
		}
		wantProgress(t, d, infos[len(infos)-1], 500)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func wantProgress(t *testing.T, d *Dir, info Info, want int64) {
	t.Helper()
	s, err := d.Spool(t.Context(), "a", info)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.(Checkpointer).Progress().Front; got != want {
		t.Errorf("taken up at %d, want %d", got, want)
	}
	if err := s.(Checkpointer).Keep(); err != nil {
		t.Fatal(err)
	}
}

// TestPartsGoWhileTheyAreTaken takes parts that are dropped at any moment: one
// is taken up as it was left, or is not there.
func TestPartsGoWhileTheyAreTaken(t *testing.T) {
	d := newDir(t, t.TempDir())
	d.disk.NoSync = true
	d.MaxPartial = 2 * minPart
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			for j := range 100 {
				info, data := content1(fmt.Sprint("part", (i+j)%5), 2000)
				if err := takePart(t.Context(), d, info, data); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Go(func() {
		for range 200 {
			if _, err := d.drop(func(part) bool { return true }); err != nil {
				t.Error(err)
			}
		}
	})
	wait.Wait()
	if _, err := d.drop(func(part) bool { return true }); err != nil {
		t.Error(err)
	}
	if names, err := readNames(d.path("partial")); err != nil || len(names) != 0 || d.kept.Load() != 0 || len(d.parts) != 0 {
		t.Errorf("%q, %d bytes and %d parts are left, %v", names, d.kept.Load(), len(d.parts), err)
	}
}

// A part whose content turns out to have another size goes, also where the new
// spool needs no file.
func TestAPartOfAnotherSizeGoes(t *testing.T) {
	for _, n := range []int{1000, 300 << 10} {
		d := newDir(t, t.TempDir())
		info, _ := keepPart(t, d, "part", n)
		info.Size -= 10
		s, err := d.Spool(t.Context(), "a", info)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil || s.(Checkpointer).Progress().Front != 0 || partsOf(t, d, info) != "" || d.kept.Load() != 0 {
			t.Errorf("%d bytes: %d are counted, %v", n, d.kept.Load(), err)
		}
	}
}

// A spool that opens its part after it was chosen to go keeps it.
func TestAPartThatWasTakenStays(t *testing.T) {
	d := newDir(t, t.TempDir())
	info, data := keepPart(t, d, "part", 1000)
	var s Spool
	_, err := d.drop(func(part) (due bool) {
		var err error
		if s, err = d.Spool(t.Context(), "a", info); err != nil {
			t.Fatal(err)
		}
		return true
	})
	if err != nil || partsOf(t, d, info) != "0" {
		t.Errorf("it went: %v", err)
	}
	if _, err := s.WriteAt(data[500:], 500); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Commit(t.Context(), info), s.Close()); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, d, "a", info.Digest, data)
}

// A part cannot be taken up while its files go, one after the other.
func TestAPartIsTakenOrGoes(t *testing.T) {
	d := newDir(t, t.TempDir())
	info, _ := keepPart(t, d, "part", 1000)
	steps := 0
	d.disk.Step = func(op durable.Op, path, _ string) error {
		held := 0
		for i := range d.partial {
			if d.partial[i].TryLock() {
				d.partial[i].Unlock()
			} else {
				held++
			}
		}
		if held != 1 {
			t.Errorf("%s of %s with %d locks", op, path, held)
		}
		steps++
		return nil
	}
	s, err := d.Spool(t.Context(), "a", info) // truncates
	if err != nil {
		t.Fatal(err)
	}
	if err := s.(Checkpointer).Keep(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.drop(func(part) bool { return true }); err != nil { // removes the entry and the file
		t.Fatal(err)
	}
	if steps != 3 {
		t.Errorf("%d steps", steps)
	}
	d.disk.Step = nil
}

func takePart(ctx context.Context, d *Dir, info Info, data []byte) error {
	s, err := d.Spool(ctx, "a", info)
	if err != nil && strings.Contains(err.Error(), "already") {
		return nil // another goroutine has it
	}
	if err != nil {
		return err
	}
	c := s.(Checkpointer)
	front := c.Progress().Front
	r, err := s.Open()
	if err != nil {
		return errors.Join(err, s.Close())
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[:front]) {
		return errors.Join(fmt.Errorf("taken up at %d with %d bytes, %v", front, len(got), err), s.Close())
	}
	end := max(front, info.Size/2)
	if _, err := s.WriteAt(data[front:end], front); err != nil {
		return errors.Join(err, s.Close())
	}
	if err := c.Checkpoint(Progress{Front: end, Size: info.Size}); err != nil {
		return errors.Join(err, s.Close())
	}
	return c.Keep()
}
