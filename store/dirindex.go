package store

import (
	"errors"
	"fmt"

	"github.com/pullthrough/pullthrough/internal/index"
)

// The buckets of index.db.
const (
	inBytes   index.Bucket = iota // number: small content
	inRepos                       // repository 0 kind ...: links, tags, referrers, size
	inBlobs                       // digest: size, place, origins
	inRecords                     // kind 0 key: data
	inPartial                     // name of a part: what vouches for it
	inUses                        // repository 0 digest: when and how often
	inTotals                      // word: number of bytes
)

// format is the layout of index.db. Another one is begun anew.
const format = "pullthrough store 1"

func (d *Dir) indexOptions() index.Options {
	return index.Options{
		Path: d.path("index.db"), Format: format, Spare: d.path("spare"), Disk: &d.disk,
		Buckets: []string{"bytes", "repos", "blobs", "records", "partial", "uses", "totals"},
		Growing: inBytes,
	}
}

// openIndex opens the database, and begins a new one if it is damaged.
func (d *Dir) openIndex() (err error) {
	o := d.indexOptions()
	d.db, err = index.Open(o)
	if errors.Is(err, index.ErrInUse) {
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	if !errors.Is(err, index.ErrDamaged) {
		return err
	}
	d.rebuilt = fmt.Errorf("%w: %w", ErrDamaged, err)
	lost, err := index.Rebuild(o, inRecords)
	if lost != nil {
		d.rebuilt = fmt.Errorf("%w; not all records could be read: %w", d.rebuilt, lost)
	}
	if err == nil {
		d.db, err = index.Open(o)
	}
	return err
}

// Rebuilt returns why OpenDir began with an empty database, with an error that wraps
// [ErrDamaged], or nil if it did not. The old one is kept as index.db.damaged until the
// next damage. Everything is copied again as it is pulled; the records that could be
// read are there.
func (d *Dir) Rebuilt() error { return d.rebuilt }
