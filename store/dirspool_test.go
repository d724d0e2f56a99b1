package store

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// kept leaves half a spool with a sidecar, and returns its files.
func kept(t *testing.T, path string, n int) (info Info, data []byte, part, side string) {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	info, data = content1(fmt.Sprint("spool", n), n)
	s, err := d.Spool(t.Context(), "a", info)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteAt(data[:n/2], 0); err != nil {
		t.Fatal(err)
	}
	c := s.(Checkpointer)
	if err := c.Checkpoint(Progress{Front: int64(n / 2), Size: int64(n), Hash: []byte("state")}); err != nil {
		t.Fatal(err)
	}
	// Not vouched for.
	if _, err := s.WriteAt(data[n/2:n-1], int64(n/2)); err != nil {
		t.Fatal(err)
	}
	if err := c.Keep(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	base := d.path("partial", keyOf("a", info).name())
	return info, data, base + partSuffix, base + sidecarSuffix
}

func TestSpoolOutlivesTheProcess(t *testing.T) {
	for _, n := range []int{1000, 300 << 10} {
		path := t.TempDir()
		info, data, _, _ := kept(t, path, n)
		d := newDir(t, path)
		s, err := d.Spool(t.Context(), "a", info)
		if err != nil {
			t.Fatal(err)
		}
		p := s.(Checkpointer).Progress()
		if p.Front != int64(n/2) || p.Size != int64(n) || string(p.Hash) != "state" {
			t.Errorf("progress: %+v", p)
		}
		if _, err := s.WriteAt(data[n/2:], int64(n/2)); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), info); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, d, "a", info.Digest, data)
		if names, err := readNames(d.path("partial")); err != nil || len(names) != 0 {
			t.Errorf("partial: %q, %v", names, err)
		}
	}
}

func TestWhatASidecarCannotVouchFor(t *testing.T) {
	edit := func(old, new string) func(t *testing.T, part, side string) {
		return func(t *testing.T, _, side string) {
			text, err := os.ReadFile(side)
			if err != nil || !bytes.Contains(text, []byte(old)) {
				t.Fatalf("%s, %v", text, err)
			}
			if err := os.WriteFile(side, []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(t *testing.T, err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(t *testing.T, part, side string){
		"no sidecar":         func(t *testing.T, _, side string) { check(t, os.Remove(side)) },
		"an empty sidecar":   func(t *testing.T, _, side string) { check(t, os.Truncate(side, 0)) },
		"a torn sidecar":     func(t *testing.T, _, side string) { check(t, os.Truncate(side, 20)) },
		"no size":            edit(`"size"`, `"was"`),
		"no front":           edit(`"front"`, `"was"`),
		"a size too small":   edit(`"size":1000`, `"size":10`),
		"another size":       edit(`"size":1000`, `"size":2000`),
		"another repository": edit(`"repository":"a"`, `"repository":"b"`),
		"another origin":     edit(`a.example`, `b.example`),
		"a short part":       func(t *testing.T, part, _ string) { check(t, os.Truncate(part, 499)) },
		"no part":            func(t *testing.T, part, _ string) { check(t, os.Remove(part)) },
		"an old part": func(t *testing.T, part, side string) {
			old := time.Now().Add(-staleAfter - time.Minute)
			check(t, os.Chtimes(part, old, old))
			check(t, os.Chtimes(side, old, old))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			info, data, part, side := kept(t, path, 1000)
			damage(t, part, side)
			d := newDir(t, path)
			s, err := d.Spool(t.Context(), "a", info)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if p := s.(Checkpointer).Progress(); p.Front != 0 {
				t.Errorf("progress: %+v", p)
			}
			if _, err := s.WriteAt(data, 0); err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(t.Context(), info); err != nil {
				t.Fatal(err)
			}
			wantBlob(t, d, "a", info.Digest, data)
		})
	}
}

func TestOpenDirClearsPartial(t *testing.T) {
	path := t.TempDir()
	_, _, part, side := kept(t, path, 1000)
	for _, name := range []string{"tmp-1", "zzz.part", "yyy.json", "stray"} {
		if err := os.WriteFile(path+"/partial/"+name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Nearly a day old.
	old := time.Now().Add(-staleAfter + time.Hour)
	for _, name := range []string{part, side} {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	newDir(t, path)
	names, err := readNames(path + "/partial")
	if err != nil || len(names) != 2 {
		t.Errorf("partial: %q, %v", names, err)
	}
}
