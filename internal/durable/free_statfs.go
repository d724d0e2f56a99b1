//go:build linux || darwin || freebsd || dragonfly

package durable

import "syscall"

// Free returns which part of the file system of path may still be used, 0 to
// 1, and whether that is known.
func Free(path string) (float64, bool) {
	var st syscall.Statfs_t
	if err := again(func() error { return syscall.Statfs(path, &st) }); err != nil || st.Blocks == 0 {
		return 0, false
	}
	// Signed on some systems, and below zero there when only root may go on.
	return max(0, float64(int64(st.Bavail))) / float64(st.Blocks), true
}
