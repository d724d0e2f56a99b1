//go:build linux || darwin || freebsd || dragonfly || netbsd || openbsd

package durable

import (
	"errors"
	"os"
	"syscall"
)

// ErrLocked reports a lock that another process holds.
var ErrLocked = errors.New("locked")

// Lock creates a file, or opens it, and locks it until [Unlock] or the end of the
// process. The error is [ErrLocked] if another process holds the lock, and
// [errors.ErrUnsupported] on systems without such locks.
func Lock(path string) (*os.File, error) {
	f, err := openFile(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	err = again(func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	if err != nil {
		f.Close()
		if err == syscall.EWOULDBLOCK {
			return nil, ErrLocked
		}
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	if err := f.Chmod(fileMode); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Unlock gives up a lock of a file that this process has open. To close the file is not
// enough while a part of it is mapped into memory, nor while another goroutine starts a
// process: until that runs its program it has the file open too.
func Unlock(f *os.File) error {
	return again(func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) })
}
