//go:build unix

package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// The functions of this file make one system call each: package os would also register
// new files with the poller, look up their type, and call lstat before a rename. For
// files of 2 KB that is half of the work.

// again repeats a system call that a signal interrupted.
func again(f func() error) error {
	for {
		if err := f(); err != syscall.EINTR {
			return err
		}
	}
}

func writeNew(path string, data []byte, sync bool) error {
	var fd int
	err := again(func() (err error) {
		fd, err = syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, fileMode)
		return err
	})
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	err = again(func() error { return syscall.Fchmod(fd, fileMode) })
	for len(data) > 0 && err == nil {
		var n int
		err = again(func() (err error) { n, err = syscall.Write(fd, data); return err })
		if err == nil {
			data = data[n:]
		}
	}
	if err == nil && sync {
		err = again(func() error { return fdatasync(fd) })
	}
	if cerr := syscall.Close(fd); err == nil && cerr != syscall.EINTR {
		err = cerr
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// datasync uses SyscallConn, so that a concurrent Close waits until it returns.
func datasync(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := raw.Control(func(fd uintptr) {
		serr = again(func() error { return fdatasync(int(fd)) })
	}); err != nil {
		return err
	}
	if serr != nil {
		return &fs.PathError{Op: "sync", Path: f.Name(), Err: serr}
	}
	return nil
}

func rename(from, to string) error {
	if err := again(func() error { return syscall.Rename(from, to) }); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func remove(path string) error {
	if err := again(func() error { return syscall.Unlink(path) }); err != nil {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

func syncFolder(path string) error {
	var fd int
	err := again(func() (err error) {
		fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	err = again(func() error { return syscall.Fsync(fd) })
	syscall.Close(fd)
	// Some file systems cannot sync a folder and return these errors. Nothing can make
	// their names more durable.
	if err != nil && err != syscall.EINVAL && err != syscall.ENOTSUP {
		return &fs.PathError{Op: "sync", Path: path, Err: err}
	}
	return nil
}

// OpenRead opens a regular file and returns its size. For a symbolic link the error is
// [ErrSymlink].
func OpenRead(path string) (*os.File, int64, error) {
	var (
		fd int
		st syscall.Stat_t
	)
	err := again(func() (err error) {
		fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
		return err
	})
	if err != nil {
		return nil, 0, openError(path, err)
	}
	err = again(func() error { return syscall.Fstat(fd, &st) })
	if err == nil {
		err = regular(&st)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), st.Size, nil
}

// OpenWrite opens an existing regular file for reading and writing. For a symbolic link
// the error is [ErrSymlink].
func OpenWrite(path string) (*os.File, error) { return openFile(path, os.O_RDWR) }

func openFile(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW, fileMode)
	if err != nil {
		return nil, openError(path, err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrIrregular}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func regular(st *syscall.Stat_t) error {
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return nil
	case syscall.S_IFLNK:
		return ErrSymlink
	}
	return ErrIrregular
}

// openError returns the error of a failed open, [ErrSymlink] for a symbolic link. Each
// system has another error for a link that it does not follow, so lstat decides.
func openError(path string, err error) error {
	var perr *fs.PathError
	if errors.As(err, &perr) {
		err = perr.Err
	}
	var st syscall.Stat_t
	if err != syscall.ENOENT && syscall.Lstat(path, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		err = ErrSymlink
	}
	return &fs.PathError{Op: "open", Path: path, Err: err}
}

// CheckOwn returns an error unless path is a folder that belongs to the user of
// this process and that no other user may write. With follow, path may be a symbolic
// link to such a folder. If path is an empty folder that its group may write, as an
// umask of 002 makes it, CheckOwn takes that right away.
func CheckOwn(path string, follow bool) error {
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	st, err := stat(path)
	if err != nil {
		return err
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		return &fs.PathError{Op: "open", Path: path, Err: ErrSymlink}
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is not a folder", path)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if self := os.Geteuid(); ok && int(sys.Uid) != self {
		return fmt.Errorf("the folder %s (%v) belongs to the user with the id %d, not to the user of this process, %d: "+
			"name a folder in it that does not exist yet, which is then created for this user alone, or change its owner (chown %[4]d)",
			path, st.Mode(), sys.Uid, self)
	}
	if st.Mode()&(0o022|fs.ModeSticky) == 0o020 && empty(path) && os.Chmod(path, st.Mode()&^0o020) == nil {
		return nil
	}
	if st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("other users may change what is in the folder %s (%v): "+
			"name a folder in it that does not exist yet, which is then created for this user alone, or, if nobody else needs it, "+
			"take that right away (chmod go-w)", path, st.Mode())
	}
	return nil
}

func empty(folder string) bool {
	f, err := os.Open(folder)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return err == io.EOF
}

// Used returns how many bytes of the disk a file takes: fewer than its size if it has
// holes.
func Used(st fs.FileInfo) int64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return min(st.Size(), int64(sys.Blocks)*512)
	}
	return st.Size()
}

// Size returns the size of a regular file.
func Size(path string) (int64, error) {
	var st syscall.Stat_t
	err := again(func() error { return syscall.Lstat(path, &st) })
	if err == nil {
		err = regular(&st)
	}
	if err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Size, nil
}

// IsFull reports whether err says that the disk or the quota is used up.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
