package index

import (
	"bytes"

	bolt "go.etcd.io/bbolt"
)

const (
	checkPage = 1000 // entries that Check reads in one transaction
	maxFaults = 1000 // of the structure: more of them say nothing new
)

// Check reads the whole file. It calls entry with each entry that does not match its
// checksum, and structure with what is wrong with its pages. Both may use the DB. Changes
// wait while it looks at the structure.
//
// The error wraps [ErrDamaged] if the file cannot be read to its end. Then this DB answers
// nothing more.
func (db *DB) Check(structure func(err error), entry func(b Bucket, key []byte)) error {
	for b := range db.o.Buckets {
		if err := db.checkEntries(Bucket(b), entry); err != nil {
			return err
		}
	}
	// Only after all pages could be read: bbolt looks at them on a goroutine of its own,
	// where a fault would end the process.
	faults, err := db.checkStructure()
	for _, f := range faults {
		structure(f)
	}
	return err
}

// checkEntries reads the entries of a bucket, page after page: while a transaction lasts,
// what others free is not used again.
func (db *DB) checkEntries(b Bucket, entry func(b Bucket, key []byte)) error {
	from := []byte{}
	for from != nil {
		var damaged [][]byte
		err := db.View(func(t *Tx) error {
			t.damaged = func(_ Bucket, key []byte) { damaged = append(damaged, bytes.Clone(key)) }
			n, start := 0, from
			from = nil
			for key := range t.Entries(b, nil, start) {
				if n++; n > checkPage {
					from = bytes.Clone(key)
					break
				}
			}
			return nil
		})
		for _, key := range damaged {
			entry(b, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkStructure lets bbolt check its pages. It compares them with its list of free
// pages, which nobody may change meanwhile.
func (db *DB) checkStructure() (faults []error, err error) {
	err = db.update(&change{alone: func() error {
		return db.view(func(tx *bolt.Tx) error {
			for fault := range tx.Check() {
				if len(faults) < maxFaults {
					faults = append(faults, fault)
				}
			}
			return nil
		})
	}})
	return faults, err
}
