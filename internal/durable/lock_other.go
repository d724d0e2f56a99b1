//go:build !linux && !darwin && !freebsd && !dragonfly && !netbsd && !openbsd

package durable

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// ErrLocked reports a lock that another process holds.
var ErrLocked = errors.New("locked")

// Lock returns [errors.ErrUnsupported]: this system has no such locks.
func Lock(string) (*os.File, error) {
	return nil, fmt.Errorf("folder locks on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Unlock gives up a lock.
func Unlock(*os.File) error { return errors.ErrUnsupported }
