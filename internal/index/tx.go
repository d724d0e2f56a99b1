package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"iter"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Tx is a transaction. It is used by one goroutine, and only until the function that
// got it returns; so is every slice that it returns.
type Tx struct {
	o       *Options
	tx      *bolt.Tx
	buckets []*bolt.Bucket // as they are used
	dirty   bool
	failed  error // of a write: the transaction is worthless
	damaged func(b Bucket, key []byte)
}

func (t *Tx) bucket(b Bucket) *bolt.Bucket {
	if t.buckets[b] == nil {
		t.buckets[b] = t.tx.Bucket([]byte(t.o.Buckets[b]))
		if t.buckets[b] == nil {
			panic("the bucket " + t.o.Buckets[b] + " is not there")
		}
		if b == t.o.Growing {
			t.buckets[b].FillPercent = 0.9
		}
	}
	return t.buckets[b]
}

// sumSize is how many bytes of a value in the file are its checksum.
const sumSize = 4

func (t *Tx) sum(b Bucket, key, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once, by package crc32
	name := t.o.Buckets[b]
	return crc32.Update(crc32.Update(crc32.Checksum([]byte(name), table), table, key), table, value)
}

// checked returns the value without its checksum, or nil if that does not match.
func (t *Tx) checked(b Bucket, key, stored []byte) []byte {
	n := len(stored) - sumSize
	if n >= 0 && binary.BigEndian.Uint32(stored[n:]) == t.sum(b, key, stored[:n]) {
		return stored[:n:n]
	}
	if t.damaged != nil {
		t.damaged(b, key)
	}
	return nil
}

// Get returns the value of an entry. If there is none, or it is damaged, the result is
// nil. The value of an entry that was put without bytes is empty and not nil.
func (t *Tx) Get(b Bucket, key []byte) []byte {
	stored := t.bucket(b).Get(key)
	if stored == nil {
		return nil
	}
	return t.checked(b, key, stored)
}

// Has reports whether there is an entry, damaged or not.
func (t *Tx) Has(b Bucket, key []byte) bool { return t.bucket(b).Get(key) != nil }

// Put sets the value of an entry. Neither key nor value may change before the
// transaction has ended.
func (t *Tx) Put(b Bucket, key, value []byte) {
	stored := make([]byte, len(value)+sumSize)
	copy(stored, value)
	binary.BigEndian.PutUint32(stored[len(value):], t.sum(b, key, value))
	t.wrote(t.bucket(b).Put(key, stored))
}

// Delete removes an entry, if it is there.
func (t *Tx) Delete(b Bucket, key []byte) {
	if t.Has(b, key) {
		t.wrote(t.bucket(b).Delete(key))
	}
}

// Next returns a number that no call has returned for this bucket before.
func (t *Tx) Next(b Bucket) uint64 {
	n, err := t.bucket(b).NextSequence()
	t.wrote(err)
	return n
}

// Changed reports whether something was written in this transaction, by this change or by
// one before it.
func (t *Tx) Changed() bool { return t.dirty }

func (t *Tx) wrote(err error) {
	t.dirty = true
	t.failed = errors.Join(t.failed, err)
}

// Entries yields the entries whose keys begin with prefix, from the key from on, in the
// order of their bytes. Damaged entries are left out. Keys out of order are damage of
// the file: without that check, a loop that seeks could go on for ever.
func (t *Tx) Entries(b Bucket, prefix, from []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		if bytes.Compare(from, prefix) < 0 {
			from = prefix
		}
		c := t.bucket(b).Cursor()
		var last []byte
		for k, v := c.Seek(from); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if bytes.Compare(k, from) < 0 || last != nil && bytes.Compare(k, last) <= 0 {
				panic("keys are out of order")
			}
			last = k
			if value := t.checked(b, k, v); value != nil && !yield(k, value) {
				return
			}
		}
	}
}

// Seek returns the first key that is not below from, or nil if there is none.
func (t *Tx) Seek(b Bucket, from []byte) []byte {
	k, _ := t.bucket(b).Cursor().Seek(from)
	if k != nil && bytes.Compare(k, from) < 0 {
		panic("keys are out of order")
	}
	return k
}

// View calls read with a transaction that only reads. It should be short: while it
// lasts, what others free is not used again.
func (db *DB) View(read func(t *Tx) error) error {
	return db.view(func(tx *bolt.Tx) error {
		return read(&Tx{o: &db.o, tx: tx, buckets: make([]*bolt.Bucket, len(db.o.Buckets))})
	})
}

func (db *DB) view(read func(tx *bolt.Tx) error) (err error) {
	if err := db.Err(); err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = db.breaks(r)
		}
	}()
	tx, err := db.bolt.Begin(false)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	if err != nil {
		return err
	}
	err = read(tx)
	return errors.Join(err, tx.Rollback())
}
