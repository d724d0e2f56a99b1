package store

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestMinFreeHoldsWhileWriting(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) { // no second passes
		d := newDir(t, path)
		const disk, largest = 64 << 20, 32<<20 + freeBytes
		d.MinFree = 0.5
		d.free = func(string) (int64, int64, bool) { return disk - sizeOf(t, d.path("partial")), disk, true }
		info, data := content1("endless", 1<<20)
		info.Size = -1
		fill := func(what string, write func(off int64) error, end func() error) {
			t.Helper()
			var off int64
			var err error
			for ; off < disk && err == nil; off += 1 << 20 {
				err = write(off)
			}
			if used := sizeOf(t, d.path("partial")); !errors.Is(err, ErrFull) || used < 32<<20 || used > largest {
				t.Errorf("%s: %d bytes were written, %v", what, used, err)
			}
			if _, err := d.Spool(t.Context(), "b", info); !errors.Is(err, ErrFull) {
				t.Errorf("%s: Spool on a full disk: %v", what, err)
			}
			if err := end(); err != nil || sizeOf(t, d.path("partial")) != 0 {
				t.Errorf("%s: the end: %v", what, err)
			}
			time.Sleep(2 * time.Second) // there is room again, and the store notices
		}
		s, err := d.Spool(t.Context(), "a", info)
		if err != nil {
			t.Fatal(err)
		}
		fill("a spool", func(off int64) error { _, err := s.WriteAt(data, off); return err }, s.Close)
		w, err := d.Create(t.Context(), "a", info)
		if err != nil {
			t.Fatal(err)
		}
		fill("a writer", func(int64) error { _, err := w.Write(data); return err }, w.Close)
	})
}

func sizeOf(t testing.TB, folder string) (size int64) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if st, err := e.Info(); err == nil {
			size += st.Size()
		}
	}
	return size
}

func TestResidueMakesRoom(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newDir(t, path)
		enough := 1
		d.free = func(string) (int64, int64, bool) {
			names, err := readNames(d.path("partial"))
			return map[bool]int64{true: 50, false: 1}[len(names) <= enough], 100, err == nil
		}
		d.MinFree = -1
		var infos []Info
		for i := range 4 {
			info, _ := keepPart(t, d, fmt.Sprint("part", i), 100<<10)
			infos = append(infos, info)
			time.Sleep(time.Second)
		}
		d.MinFree = 0.1
		small, _ := content1("small", 1000)
		s, err := d.Spool(t.Context(), "a", small)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := partsOf(t, d, infos...); got != "3" {
			t.Errorf("what is left: %q, want the youngest", got)
		}
		if s, err = d.Spool(t.Context(), "a", infos[3]); err != nil || s.(Checkpointer).Progress().Front == 0 {
			t.Fatalf("the youngest cannot be taken up: %v", err)
		}
		defer s.Close()
		enough = 0
		time.Sleep(2 * time.Second)
		if _, err := d.Spool(t.Context(), "a", infos[0]); !errors.Is(err, ErrFull) {
			t.Errorf("nothing can go, but Spool says %v", err)
		}
		if got := partsOf(t, d, infos...); got != "3" {
			t.Errorf("an open part went: %q", got)
		}
	})
}
