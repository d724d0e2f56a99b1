package index

import (
	"errors"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// A file is compacted when it is opened, if that gains at least as many bytes as
// compactGain and half of the file. bbolt uses free pages again but never gives them
// back to the disk.
const compactGain = 256 << 20

// compact makes the file smaller if most of it is free.
func (db *DB) compact(size int64) error {
	gain := db.o.compactGain
	if gain == 0 {
		gain = compactGain
	}
	if size < gain {
		return nil
	}
	opts := options(0)
	opts.NoStatistics = false // they tell how much is free
	src, f, err := openFile(db.o.Path, opts)
	if err != nil {
		return err
	}
	defer letGo(f) // also after a panic
	free := int64(src.Stats().FreePageN) * int64(src.Info().PageSize)
	if free < max(gain, size/2) {
		return src.Close()
	}
	temp := db.o.Disk.TempName()
	err = errors.Join(compactTo(db.o.Disk, temp, src), src.Close())
	if err == nil {
		err = db.o.Disk.Rename(temp, db.o.Path)
	}
	if err != nil {
		os.Remove(temp)
		if isFull(err) {
			return nil // it stays as it is
		}
		return err
	}
	return db.o.Disk.SyncFolder(filepath.Dir(db.o.Path)) // before anything is written into it
}

func compactTo(disk *durable.Disk, path string, src *bolt.DB) error {
	opts := options(0)
	opts.NoSync = true              // once, at the end
	f, err := disk.CreateFile(path) // with the right mode, whatever the umask is
	if err != nil {
		return err
	}
	f.Close()
	dst, f, err := openFile(path, opts)
	if err != nil {
		return err
	}
	defer letGo(f) // also after a panic
	err = bolt.Compact(dst, src, 16<<20)
	return errors.Join(err, dst.Sync(), dst.Close())
}
