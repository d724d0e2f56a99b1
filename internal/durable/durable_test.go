//go:build unix

package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
	var synced []string
	d := Disk{Step: func(op Op, path, _ string) error {
		if op == OpFolder {
			synced = append(synced, path[len(dir):])
		}
		return nil
	}}
	if err := d.MkdirAll(dir + "/a/b/c"); err != nil {
		t.Fatal(err)
	}
	if len(synced) != 3 || synced[0] != "" || synced[1] != "/a" || synced[2] != "/a/b" {
		t.Errorf("synced %q", synced)
	}
	if err := d.MkdirAll(dir + "/a/b/c"); err != nil || len(synced) != 3 {
		t.Errorf("again: %v, %q", err, synced)
	}
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.MkdirAll(dir + "/file"); err == nil {
		t.Error("a file was taken for a folder")
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
	if free, all, known := Free(t.TempDir()); known && (free < 0 || all <= 0 || free > all) {
		t.Errorf("%v is free", free)
	}
}
