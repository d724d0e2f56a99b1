//go:build unix

package durable

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

func TestNothingIsOpenedThroughALink(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/file", []byte("x"), 0o600), os.Symlink("file", dir+"/link"), os.Symlink("none", dir+"/dangling")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "dangling"} {
		path := dir + "/" + name
		_, _, rerr := OpenRead(path)
		_, werr := OpenWrite(path)
		_, lerr := Lock(path)
		_, serr := Size(path)
		for i, err := range []error{rerr, werr, lerr, serr} {
			if !errors.Is(err, ErrSymlink) {
				t.Errorf("%s, %d: %v", name, i, err)
			}
		}
	}
	if _, err := os.Lstat(dir + "/none"); err == nil {
		t.Error("a file was created through a link")
	}
	if f, n, err := OpenRead(dir + "/file"); err != nil || n != 1 {
		t.Errorf("a file: %d bytes, %v", n, err)
	} else {
		f.Close()
	}
	if _, _, err := OpenRead(dir); err == nil {
		t.Error("a folder was opened as a file")
	}
}

func TestUsedLeavesHolesOut(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 1<<30); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if sys := st.Sys().(*syscall.Stat_t); int64(sys.Blocks)*512 > 1<<29 {
		t.Skip("the file system knows no holes")
	}
	if used := Used(st); used < 1 || used > 1<<20 {
		t.Errorf("%d bytes are used", used)
	}
}
