//go:build linux || darwin || freebsd || dragonfly

package durable

import "syscall"

// Free returns the part of the file system of path that is free, from 0 to 1, and
// whether it is known.
func Free(path string) (float64, bool) {
	var st syscall.Statfs_t
	if err := again(func() error { return syscall.Statfs(path, &st) }); err != nil || st.Blocks == 0 {
		return 0, false
	}
	// Bavail is signed on some systems, and below zero there when only root may write.
	return max(0, float64(int64(st.Bavail))) / float64(st.Blocks), true
}
