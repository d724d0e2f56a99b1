package durable

import "syscall"

// fdatasync also empties the cache of the drive, which fsync does not do on darwin.
func fdatasync(fd int) error {
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_FULLFSYNC, 0)
	if errno == syscall.ENOTSUP || errno == syscall.EINVAL {
		return syscall.Fsync(fd)
	}
	if errno != 0 {
		return errno
	}
	return nil
}
