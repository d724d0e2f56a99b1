//go:build !linux && !darwin && !freebsd && !dragonfly && !netbsd && !openbsd

package durable

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// ErrLocked reports a lock that another process has.
var ErrLocked = errors.New("locked")

// Lock is not there on this system.
func Lock(string) (*os.File, error) {
	return nil, fmt.Errorf("folder locks on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// SyncAll does nothing.
func SyncAll() {}
