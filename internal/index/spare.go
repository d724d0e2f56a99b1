package index

import (
	"os"
	"time"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// spareBytes is the size of the spare file.
const spareBytes = 1 << 20

// spareEvery is how often a spare file that was given up is tried to be made again.
const spareEvery = time.Second

// spend gives up the spare file, and reports whether there was one.
func (db *DB) spend() bool {
	if db.o.Spare == "" || db.spent.Swap(true) {
		return false
	}
	return os.Remove(db.o.Spare) == nil
}

// restoreSpare makes the spare file if it is not there. On a full disk it stays away.
// It is called by Open and by the goroutine that commits.
func (db *DB) restoreSpare() {
	if db.o.Spare == "" || time.Since(db.spareTried) < spareEvery {
		return
	}
	db.spareTried = time.Now()
	n, err := durable.Size(db.o.Spare)
	if err != nil || n != spareBytes {
		err = db.o.Disk.WriteFile(db.o.Spare, make([]byte, spareBytes), true)
	}
	db.spent.Store(err != nil)
}
