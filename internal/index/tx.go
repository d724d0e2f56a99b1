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
	// expected has the checksums of what was read and written, by bucket and key. It is nil
	// if the transaction only reads.
	expected map[string]uint64
	name     []byte // of an entry in expected
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
	t.note(b, key, stored)
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
	t.note(b, key, stored)
}

// Delete removes an entry, if it is there.
func (t *Tx) Delete(b Bucket, key []byte) {
	if t.Has(b, key) {
		t.wrote(t.bucket(b).Delete(key))
		t.note(b, key, nil)
	}
}

// Next returns a number that no call has returned for this bucket before. If numbers are
// its keys, it is none of them, even if the file is damaged.
func (t *Tx) Next(b Bucket, key func(n uint64) []byte) uint64 {
	for {
		n, err := t.bucket(b).NextSequence()
		t.wrote(err)
		if err != nil || !t.Has(b, key(n)) {
			return n
		}
	}
}

// Changed reports whether something was written in this transaction, by this change or by
// one before it.
func (t *Tx) Changed() bool { return t.dirty }

func (t *Tx) wrote(err error) {
	if errors.Is(err, berrors.ErrIncompatibleValue) {
		panic(err) // there are no buckets in buckets
	}
	t.dirty = true
	t.failed = errors.Join(t.failed, err)
}

// note notes what an entry must be after the transaction, in one that writes: its
// checksum, or none if it must not be there.
func (t *Tx) note(b Bucket, key, stored []byte) {
	if t.expected == nil {
		return
	}
	t.name = append(append(t.name[:0], byte(b)), key...)
	if is, known := t.expected[string(t.name)]; !known || is != sumOf(stored) {
		t.expected[string(t.name)] = sumOf(stored)
	}
}

// sumOf returns the checksum of an entry as one word that is not zero, or 0 without one.
func sumOf(stored []byte) uint64 {
	if len(stored) < sumSize {
		return 0
	}
	return 1<<32 | uint64(binary.BigEndian.Uint32(stored[len(stored)-sumSize:]))
}

// proves panics unless a transaction reads what another has written, or relied on. If the
// keys of a page are damaged, a change of it can make entries unreachable, even new ones.
func (t *Tx) proves(expected map[string]uint64) {
	for name, sum := range expected {
		if sumOf(t.bucket(Bucket(name[0])).Get([]byte(name[1:]))) != sum {
			panic("what was written cannot be read")
		}
	}
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

// Seek returns the first key of an entry that is not below from, or nil if there is none.
func (t *Tx) Seek(b Bucket, from []byte) []byte {
	for k := range t.Entries(b, nil, from) {
		return k
	}
	return nil
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
