//go:build unix && !linux && !darwin

package durable

import "syscall"

func fdatasync(fd int) error { return syscall.Fsync(fd) }
