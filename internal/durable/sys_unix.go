//go:build unix

package durable

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// The functions of this file make the system call and nothing else: package os
// would register new files with the poller, ask for their type, and take
// another lstat for a rename. For files of 2 KB that is half of the work.

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
		fd, err = syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
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

// datasync uses SyscallConn: a concurrent Close then waits for it.
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

func symlink(target, path string) error {
	if err := again(func() error { return syscall.Symlink(target, path) }); err != nil {
		return &os.LinkError{Op: "symlink", Old: target, New: path, Err: err}
	}
	return nil
}

func link(file, path string) error {
	if err := again(func() error { return syscall.Link(file, path) }); err != nil {
		return &os.LinkError{Op: "link", Old: file, New: path, Err: err}
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
	// Some file systems cannot sync a folder and say so: their names are as
	// durable as they will ever be.
	if err != nil && err != syscall.EINVAL && err != syscall.ENOTSUP {
		return &fs.PathError{Op: "sync", Path: path, Err: err}
	}
	return nil
}

// OpenRead opens a regular file and returns its size: open, fstat, and no
// poller.
func OpenRead(path string) (*os.File, int64, error) {
	var (
		fd int
		st syscall.Stat_t
	)
	err := again(func() (err error) {
		fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if err := again(func() error { return syscall.Fstat(fd, &st) }); err != nil {
		syscall.Close(fd)
		return nil, 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), st.Size, nil
}

// Size returns the size of a file.
func Size(path string) (int64, error) {
	var st syscall.Stat_t
	if err := again(func() error { return syscall.Stat(path, &st) }); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Size, nil
}

// Exists reports whether there is a name, whatever it leads to.
func Exists(path string) bool {
	var st syscall.Stat_t
	return again(func() error { return syscall.Lstat(path, &st) }) == nil
}

// Readlink reads a symbolic link into buf and returns how much it is; a target
// longer than buf is cut.
func Readlink(path string, buf []byte) (int, error) {
	var n int
	err := again(func() (err error) { n, err = syscall.Readlink(path, buf); return err })
	if err != nil {
		return 0, &fs.PathError{Op: "readlink", Path: path, Err: err}
	}
	return n, nil
}

// IsFull reports whether err says that the disk or the quota is used up.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
