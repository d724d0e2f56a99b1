// Package durable is the one way in which files come into being.
//
// A file is written under a temporary name in a folder for such files, synced,
// and renamed to its place; the folder that then names it is synced last. What
// a crash leaves behind is thus the old state or the new one, and temporary
// files. Folder syncs are grouped: see [Folders].
//
// Files have the mode 0600 and folders 0700, whatever the umask is. No file is
// opened through a symbolic link in its place.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
)

// Op names a step that changes the disk, for [Disk.Step].
type Op string

// The steps. Each is announced before it is done.
const (
	OpCreate   Op = "create"   // a new file that is empty
	OpWrite    Op = "write"    // bytes into a file
	OpSync     Op = "sync"     // the bytes of a file reach the disk
	OpRename   Op = "rename"   // a file takes its final name
	OpSymlink  Op = "symlink"  // a symbolic link appears
	OpLink     Op = "link"     // a second name of a file appears
	OpMkdir    Op = "mkdir"    // a folder appears
	OpRemove   Op = "remove"   // a name goes away
	OpTruncate Op = "truncate" // a file becomes shorter
	OpFolder   Op = "folder"   // the names in a folder reach the disk
)

// The modes of everything that is created. The umask can take bits away, so they
// are set once more after that.
const (
	fileMode   = 0o600
	folderMode = 0o700
)

// ErrSymlink reports a symbolic link where a file or a folder must be.
var ErrSymlink = errors.New("a symbolic link is in its place, which is not followed")

// tempPrefix begins the names of temporary files.
const tempPrefix = "tmp-"

// Disk changes files below one root. It is safe for concurrent use.
type Disk struct {
	// Temp is the folder for temporary files: same file system, one process.
	Temp string
	// Step, if not nil, is called before each step with the path it is about,
	// and for a rename with the former one. Its error replaces the step; tests
	// stop the world with it.
	Step func(op Op, path, from string) error
	// NoSync leaves syncs out, for tests that only pretend to lose power.
	NoSync bool

	n atomic.Uint64
}

func (d *Disk) step(op Op, path string) error { return d.stepFrom(op, path, "") }

func (d *Disk) stepFrom(op Op, path, from string) error {
	if d.Step == nil {
		return nil
	}
	return d.Step(op, path, from)
}

// TempName returns a name in Temp that nobody uses.
func (d *Disk) TempName() string {
	return d.Temp + "/" + tempPrefix + strconv.FormatUint(d.n.Add(1), 36)
}

// WriteFile puts data at path, as a whole or not at all. With sync the bytes
// are on disk before the name is there; the folder is the caller's to sync.
// The folder of path must exist: [fs.ErrNotExist].
func (d *Disk) WriteFile(path string, data []byte, sync bool) error {
	temp, err := d.WriteTemp(data, sync)
	if err != nil {
		return err
	}
	if err := d.Rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	return nil
}

// WriteTemp writes data to a temporary file and returns its name.
func (d *Disk) WriteTemp(data []byte, sync bool) (string, error) {
	temp := d.TempName()
	if err := d.step(OpCreate, temp); err != nil {
		return "", err
	}
	if err := d.step(OpWrite, temp); err != nil {
		return "", err
	}
	if sync {
		if err := d.step(OpSync, temp); err != nil {
			return "", err
		}
	}
	if err := writeNew(temp, data, sync && !d.NoSync); err != nil {
		os.Remove(temp)
		return "", err
	}
	return temp, nil
}

// CreateTemp creates a temporary file, open for reading and writing.
func (d *Disk) CreateTemp() (*os.File, error) {
	temp := d.TempName()
	if err := d.step(OpCreate, temp); err != nil {
		return nil, err
	}
	return createNew(temp)
}

// createNew creates a file that is not there, open for reading and writing.
func createNew(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(fileMode); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return f, nil
}

// Sync brings the bytes of f to the disk. f may be closed meanwhile.
func (d *Disk) Sync(f *os.File) error {
	if err := d.step(OpSync, f.Name()); err != nil || d.NoSync {
		return err
	}
	return datasync(f)
}

// Rename moves a file to its final name, replacing what was there.
func (d *Disk) Rename(from, to string) error {
	if err := d.stepFrom(OpRename, to, from); err != nil {
		return err
	}
	return rename(from, to)
}

// Symlink creates a symbolic link; [fs.ErrExist] if there is something.
func (d *Disk) Symlink(target, path string) error {
	if err := d.step(OpSymlink, path); err != nil {
		return err
	}
	return symlink(target, path)
}

// ReplaceSymlink creates a symbolic link in the place of what is there.
func (d *Disk) ReplaceSymlink(target, path string) error {
	temp := d.TempName()
	if err := d.Symlink(target, temp); err != nil {
		return err
	}
	if err := d.Rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	return nil
}

// Link gives a file a second name; one that is there already is no error. On a
// file system that knows no such names, or for a file that has as many as it
// may have, path becomes an empty file.
func (d *Disk) Link(file, path string) error {
	if err := d.step(OpLink, path); err != nil {
		return err
	}
	err := link(file, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if werr := writeNew(path, nil, false); werr != nil && !errors.Is(werr, fs.ErrExist) {
		return errors.Join(err, werr)
	}
	return nil
}

// Remove removes a name; one that is not there is no error.
func (d *Disk) Remove(path string) error {
	if err := d.step(OpRemove, path); err != nil {
		return err
	}
	if err := remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ReadFile returns what is in a file.
func ReadFile(path string) ([]byte, error) {
	f, size, err := OpenRead(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, size)
	_, err = io.ReadFull(f, data)
	return data, err
}

// Truncate cuts a file to size bytes.
func (d *Disk) Truncate(f *os.File, size int64) error {
	if err := d.step(OpTruncate, f.Name()); err != nil {
		return err
	}
	return f.Truncate(size)
}

// MkdirAll creates a folder and those above it, and calls made with the folder
// that each new name is in. It never creates below a file.
func (d *Disk) MkdirAll(path string, made func(parent string)) error {
	err := d.mkdir(path, made)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if parent == path {
		return err
	}
	if err := d.MkdirAll(parent, made); err != nil {
		return err
	}
	return d.mkdir(path, made)
}

func (d *Disk) mkdir(path string, made func(parent string)) error {
	if err := d.step(OpMkdir, path); err != nil {
		return err
	}
	err := os.Mkdir(path, folderMode)
	switch {
	case err == nil:
		made(filepath.Dir(path))
		return os.Chmod(path, folderMode)
	case errors.Is(err, fs.ErrExist):
		if st, serr := os.Stat(path); serr == nil && !st.IsDir() {
			return fmt.Errorf("%s is not a folder", path)
		}
		return nil
	}
	return err
}

// Writing announces bytes that the caller writes into f itself.
func (d *Disk) Writing(f *os.File) error { return d.step(OpWrite, f.Name()) }

// CreateFile creates a file that is not there, open for reading and writing,
// in a folder where names need no sync.
func (d *Disk) CreateFile(path string) (*os.File, error) {
	if err := d.step(OpCreate, path); err != nil {
		return nil, err
	}
	return createNew(path)
}
