//go:build unix

package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pullthrough/pullthrough/internal/durable"
)

func TestModesWhateverTheUmask(t *testing.T) {
	for _, mask := range []int{0, 0o077, 0o477, 0o777} {
		root := t.TempDir() + "/new"
		former := syscall.Umask(mask)
		func() {
			defer syscall.Umask(former)
			fillDir(t, root+"/store")
		}()
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.Type() == fs.ModeSymlink {
				return err
			}
			st, err := e.Info()
			if err != nil {
				return err
			}
			want := fs.FileMode(0o600)
			if e.IsDir() {
				want = 0o700
			}
			if st.Mode().Perm() != want {
				t.Errorf("umask %04o: %s is %v", mask, path, st.Mode())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// fillDir leaves a file of every kind in a store.
func fillDir(t *testing.T, path string) {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	small, smallData := content1("small", 1000)
	big, bigData := content1("big", 100<<10)
	manifest, text := content1("manifest", 300)
	manifest.MediaType, manifest.Subject = "application/vnd.oci.image.manifest.v1+json", small.Digest
	keepPart(t, d, "part", 100<<10)
	for _, err := range []error{
		create(t, d, "a", small, smallData), create(t, d, "a", big, bigData), create(t, d, "a", manifest, text),
		d.SetTag(t.Context(), "a", "v1", Tag{Descriptor: manifest.Descriptor}),
		d.PutRecord(t.Context(), "jobs", "a", nil),
		d.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

const precious = "precious, and long enough to be taken for half of what is to be written"

// withLink uses a store in which a link is in the place of a file or a folder.
func withLink(t *testing.T, name string) {
	info, data := content1("part", 100)
	root, outside := t.TempDir(), t.TempDir()
	target, link := outside+"/precious", root+"/"+name
	if err := os.WriteFile(target, []byte(precious), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(leavePart(t.Context(), d, info, data), d.Close()); err != nil {
		t.Fatal(err)
	}
	file := name == "lock" || name == "index.db"
	folder := name == "partial" || name == "blobs"
	if folder {
		target = outside
	}
	if err := errors.Join(os.RemoveAll(link), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	d, err = OpenDir(root)
	if refused := folder || file; refused != (err != nil) || refused && !errors.Is(err, durable.ErrSymlink) {
		t.Fatalf("OpenDir: %v", err)
	}
	if err == nil {
		if err := d.PutRecord(t.Context(), "jobs", "a", nil); err != nil {
			t.Errorf("PutRecord: %v", err)
		}
		if err := errors.Join(leavePart(t.Context(), d, info, data), d.Close()); err != nil {
			t.Error(err)
		}
	}
	if got, err := os.ReadFile(outside + "/precious"); err != nil || string(got) != precious {
		t.Errorf("what the link led to: %q, %v", got, err)
	}
	if names, err := readNames(outside); err != nil || len(names) != 1 {
		t.Errorf("where the link led to: %q, %v", names, err)
	}
}

func TestOpenDirFollowsNoLinks(t *testing.T) {
	info, _ := content1("part", 100)
	base := "partial/" + keyOf("a", info).name()
	for _, name := range []string{"lock", "index.db", "index.db.opening", "spare", base + partSuffix, "partial", "blobs"} {
		t.Run(name, func(t *testing.T) { withLink(t, name) })
	}
	t.Run("a link to nothing", func(t *testing.T) {
		root, outside := t.TempDir(), t.TempDir()
		if err := os.Symlink(outside+"/lock", root+"/lock"); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenDir(root); !errors.Is(err, durable.ErrSymlink) || !strings.Contains(err.Error(), root+"/lock") {
			t.Errorf("OpenDir: %v", err)
		}
		if names, err := readNames(outside); err != nil || len(names) != 0 {
			t.Errorf("where the link led to: %q, %v", names, err)
		}
	})
	t.Run("the folder itself may be named by a link", func(t *testing.T) {
		link := t.TempDir() + "/link"
		if err := os.Symlink(t.TempDir(), link); err != nil {
			t.Fatal(err)
		}
		newDir(t, link)
	})
}

func TestOpenDirRefusesWhatOthersMayWrite(t *testing.T) {
	refused := func(root string, words ...string) {
		t.Helper()
		d, err := OpenDir(root)
		if err == nil {
			d.Close()
			t.Errorf("%q: opened", words)
			return
		}
		for _, word := range append(words, root, "name a folder in it") {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q is missing: %v", word, err)
			}
		}
		if names, err := readNames(root); err != nil || len(names) != 0 {
			t.Errorf("what was refused has %q, %v", names, err)
		}
	}
	used := t.TempDir()
	if err := os.Mkdir(used+"/other", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(used, 0o775); err != nil {
		t.Fatal(err)
	}
	if d, err := OpenDir(used); err == nil {
		d.Close()
		t.Error("a folder with something in it that the group may change was opened")
	}
	for mode, text := range map[fs.FileMode]string{
		0o777: "drwxrwxrwx", fs.ModeSticky | 0o775: "dtrwxrwxr-x", 0o757: "drwxr-xrwx", fs.ModeSticky | 0o777: "dtrwxrwxrwx",
	} {
		root := t.TempDir()
		if err := os.Chmod(root, mode); err != nil {
			t.Fatal(err)
		}
		refused(root, text, "chmod go-w")
	}
	for _, mode := range []fs.FileMode{0o775, 0o755, 0o700} {
		root := t.TempDir()
		if err := os.Chmod(root, mode); err != nil {
			t.Fatal(err)
		}
		newDir(t, root)
		if st, err := os.Stat(root); err != nil || st.Mode().Perm()&0o022 != 0 {
			t.Errorf("%v is left as %v, %v", mode, st.Mode(), err)
		}
	}
	if os.Geteuid() == 0 {
		root := t.TempDir()
		if err := os.Chown(root, 12345, -1); err != nil {
			t.Fatal(err)
		}
		refused(root, "12345", "drwx", "chown 0")
	}
}

// TestFolderIsFreeWhileAProcessStarts: from its fork until it runs its program, a process
// that another goroutine starts has all files open that this one had.
func TestFolderIsFreeWhileAProcessStarts(t *testing.T) {
	path := t.TempDir()
	fork := func(f *os.File) {
		fd, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(fd) })
	}
	d := newDir(t, path)
	fork(d.lock)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = newDir(t, path)
	fork(d.lock)
	d.crash()
	newDir(t, path)
}
