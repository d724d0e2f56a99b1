//go:build unix

package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestWriteFileIsWholeOrNothing(t *testing.T) {
	dir := t.TempDir()
	temp := filepath.Join(dir, "temp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file")
	stop := errors.New("stop")
	for steps := 0; ; steps++ {
		n := 0
		d := &Disk{Temp: temp, Step: func(Op, string, string) error {
			if n++; n > steps {
				return stop
			}
			return nil
		}}
		err := d.WriteFile(path, []byte("whole"), true)
		got, rerr := os.ReadFile(path)
		if err == nil {
			if string(got) != "whole" || rerr != nil || steps != 4 {
				t.Errorf("after %d steps: %q, %v", steps, got, rerr)
			}
			return
		}
		if !errors.Is(err, stop) || !errors.Is(rerr, fs.ErrNotExist) {
			t.Errorf("stopped after %d steps: %v; file: %q, %v", steps, err, got, rerr)
		}
	}
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	var d Disk
	var made []string
	note := func(parent string) { made = append(made, parent[len(dir):]) }
	if err := d.MkdirAll(dir+"/a/b/c", note); err != nil {
		t.Fatal(err)
	}
	if len(made) != 3 || made[0] != "" || made[1] != "/a" || made[2] != "/a/b" {
		t.Errorf("made in %q", made)
	}
	if err := d.MkdirAll(dir+"/a/b/c", note); err != nil || len(made) != 3 {
		t.Errorf("again: %v, %q", err, made)
	}
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.MkdirAll(dir+"/file", note); err == nil {
		t.Error("a file was taken for a folder")
	}
}

func TestLinkTwice(t *testing.T) {
	dir := t.TempDir()
	var d Disk
	if err := d.Link(dir+"/none", dir+"/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("link of what is not there: %v", err)
	}
	if err := os.WriteFile(dir+"/a", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Link(dir+"/a", dir+"/b"); err != nil {
			t.Error(err)
		}
	}
}

// TestFoldersShareSyncs: all callers that arrive while a sync runs share the next one.
func TestFoldersShareSyncs(t *testing.T) {
	dir := t.TempDir()
	var syncs atomic.Int32
	begun, goOn := make(chan bool), make(chan bool)
	d := &Disk{Step: func(Op, string, string) error {
		if syncs.Add(1) == 1 {
			close(begun)
			<-goOn
		}
		return nil
	}}
	f := &Folders{Disk: d}
	var wait sync.WaitGroup
	first := f.Dirty(dir)
	wait.Go(func() {
		if err := f.Sync(map[string]Mark{dir: first}); err != nil {
			t.Error(err)
		}
	})
	<-begun
	for range 50 {
		mark := f.Dirty(dir) // after the first sync began, which does not cover it
		wait.Go(func() {
			if err := f.Sync(map[string]Mark{dir: mark}); err != nil {
				t.Error(err)
			}
			if _, dirty := f.Pending(dir); dirty {
				t.Error("still dirty after its sync")
			}
		})
	}
	close(goOn)
	wait.Wait()
	if n := syncs.Load(); n != 2 {
		t.Errorf("%d syncs for 51 changes, want 2", n)
	}
	if all := f.All(); len(all) != 0 {
		t.Errorf("left: %v", all)
	}
	if err := f.Sync(map[string]Mark{dir: first}); err != nil || syncs.Load() != 2 {
		t.Errorf("a clean folder was synced: %v", err)
	}
}

func TestFoldersTellFailures(t *testing.T) {
	dir, bad := t.TempDir(), errors.New("bad disk")
	broken := true
	d := &Disk{Step: func(Op, string, string) error {
		if broken {
			return bad
		}
		return nil
	}}
	f := &Folders{Disk: d}
	want := map[string]Mark{dir: f.Dirty(dir)}
	if err := f.Sync(want); !errors.Is(err, bad) {
		t.Errorf("Sync: %v", err)
	}
	broken = false
	if err := f.Sync(want); err != nil {
		t.Errorf("Sync again: %v", err)
	}
	if _, dirty := f.Pending(dir); dirty {
		t.Error("still dirty")
	}
}

func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	f.Close()
	if f, err = Lock(path); err != nil {
		t.Errorf("after Close: %v", err)
	} else {
		f.Close()
	}
}

func TestFree(t *testing.T) {
	if free, known := Free(t.TempDir()); known && (free < 0 || free > 1) {
		t.Errorf("%v is free", free)
	}
}
