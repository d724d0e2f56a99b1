package store

// OpenUnsynced is OpenDir for tests that lose no power, and do not wait for the disk.
func OpenUnsynced(path string) (*Dir, error) {
	d := new(Dir)
	d.disk.NoSync = true
	return d, d.openAt(path)
}
