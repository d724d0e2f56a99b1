// Package durable creates and changes files so that a crash leaves nothing half done.
//
// A file is written under a temporary name in a folder for such files, synced, and
// renamed to its final path; then the folder of that path is synced. After a crash
// there is thus the old file or the new one, and perhaps temporary files.
//
// Files have the mode 0600 and folders 0700, whatever the umask is. No file is opened
// through a symbolic link.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// Op names a step that changes the disk: see [Disk.Step].
type Op string

// The steps.
const (
	OpCreate   Op = "create"   // an empty file is created
	OpWrite    Op = "write"    // bytes are written into a file
	OpSync     Op = "sync"     // the bytes of a file reach the disk
	OpRename   Op = "rename"   // a file takes its final name
	OpMkdir    Op = "mkdir"    // a folder is created
	OpRemove   Op = "remove"   // a name is removed
	OpTruncate Op = "truncate" // a file becomes shorter
	OpFolder   Op = "folder"   // the names in a folder reach the disk
	OpBegin    Op = "begin"    // a database is written into an empty file
	OpCommit   Op = "commit"   // a transaction of a database is written, and reaches the disk
)

// The modes of files and folders. The umask can take bits away from a new one, so its
// mode is set once more.
const (
	fileMode   = 0o600
	folderMode = 0o700
)

// ErrSymlink reports a symbolic link at a path where a file or a folder must be.
var ErrSymlink = errors.New("a symbolic link is in its place, which is not followed")

// ErrIrregular reports a folder, or something else that is no regular file, where a file
// must be.
var ErrIrregular = errors.New("it is not a regular file")

// tempPrefix begins the names of temporary files.
const tempPrefix = "tmp-"

// Disk changes files below one root. It is safe for concurrent use.
type Disk struct {
	// Temp is the folder for temporary files. It must be on the file system of the
	// files, and no other process may use it.
	Temp string
	// Step, if not nil, is called before each step with the path that it changes; for
	// a rename, from is the former path. If Step returns an error, the step is not
	// taken and fails with that error, as tests of crashes need.
	Step func(op Op, path, from string) error
	// NoSync leaves syncs out, for tests that do not lose power.
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

// TempName returns an unused path in Temp.
func (d *Disk) TempName() string {
	return d.Temp + "/" + tempPrefix + strconv.FormatUint(d.n.Add(1), 36)
}

// ClearTemp removes the temporary files that a former process left.
func (d *Disk) ClearTemp() error {
	entries, err := os.ReadDir(d.Temp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		if err := d.Remove(d.Temp + "/" + e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile writes data to path, as a whole or not at all. With sync, the bytes are on
// disk before path names them; the caller syncs the folder. If the folder of path does
// not exist, the error is [fs.ErrNotExist].
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

// WriteTemp writes data to a temporary file and returns its path.
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

// createNew creates a file that must not exist yet, open for reading and writing.
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

// Sync brings the bytes of f to the disk. f may be closed at the same time.
func (d *Disk) Sync(f *os.File) error {
	if err := d.step(OpSync, f.Name()); err != nil || d.NoSync {
		return err
	}
	return datasync(f)
}

// Rename moves a file to its final path, and replaces a file that is there.
func (d *Disk) Rename(from, to string) error {
	if err := d.stepFrom(OpRename, to, from); err != nil {
		return err
	}
	return rename(from, to)
}

// SyncFolder brings the names in a folder to the disk.
func (d *Disk) SyncFolder(path string) error {
	if err := d.step(OpFolder, path); err != nil || d.NoSync {
		return err
	}
	return syncFolder(path)
}

// Remove removes a name; it is no error if there is none. A folder in the place of a
// file is removed with what it has.
func (d *Disk) Remove(path string) error {
	if err := d.step(OpRemove, path); err != nil {
		return err
	}
	err := remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if st, serr := os.Lstat(path); serr == nil && st.IsDir() {
		return os.RemoveAll(path)
	}
	return err
}

// Truncate cuts a file to size bytes.
func (d *Disk) Truncate(f *os.File, size int64) error {
	if err := d.step(OpTruncate, f.Name()); err != nil {
		return err
	}
	return f.Truncate(size)
}

// MkdirAll creates a folder and those above it. The names of those that it creates are
// on disk when it returns. A file in the path is an error.
func (d *Disk) MkdirAll(path string) error {
	err := d.mkdir(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if parent == path {
		return err
	}
	if err := d.MkdirAll(parent); err != nil {
		return err
	}
	return d.mkdir(path)
}

func (d *Disk) mkdir(path string) error {
	if err := d.step(OpMkdir, path); err != nil {
		return err
	}
	err := os.Mkdir(path, folderMode)
	switch {
	case err == nil:
		if err := os.Chmod(path, folderMode); err != nil {
			return err
		}
		err := d.SyncFolder(filepath.Dir(path))
		if err != nil && d.step(OpRemove, path) == nil {
			os.Remove(path) // the next call must not find a folder whose name is not on disk
		}
		return err
	case errors.Is(err, fs.ErrExist):
		if st, serr := os.Stat(path); serr == nil && !st.IsDir() {
			return fmt.Errorf("%s is not a folder", path)
		}
		return nil
	}
	return err
}

// Writing is the step [OpWrite] for bytes that the caller writes into f itself.
func (d *Disk) Writing(f *os.File) error { return d.step(OpWrite, f.Name()) }

// Committing is the step [OpCommit] of the database at path, which the caller takes.
func (d *Disk) Committing(path string) error { return d.step(OpCommit, path) }

// Beginning is the step [OpBegin] of the database at path, which the caller takes.
func (d *Disk) Beginning(path string) error { return d.step(OpBegin, path) }

// CreateFile creates a file that must not exist yet, open for reading and writing, in a
// folder that needs no sync.
func (d *Disk) CreateFile(path string) (*os.File, error) {
	if err := d.step(OpCreate, path); err != nil {
		return nil, err
	}
	return createNew(path)
}
