//go:build linux || darwin || freebsd || dragonfly

package durable

import "syscall"

// Free returns how many bytes of the file system of path are free, and how many there
// are in all, and whether that is known.
func Free(path string) (free, all int64, known bool) {
	var st syscall.Statfs_t
	if err := again(func() error { return syscall.Statfs(path, &st) }); err != nil || st.Blocks == 0 {
		return 0, 0, false
	}
	// Bavail is signed on some systems, and below zero there when only root may write.
	block := int64(st.Bsize)
	return max(0, int64(st.Bavail)) * block, int64(st.Blocks) * block, true
}
