// Package index keeps small entries in one file that changes by transactions: what one
// transaction writes is there as a whole or not at all, whatever ends the process or
// the machine. It is bbolt with what a store needs beside that:
//
//   - Changes of many goroutines at the same time share a transaction, and so the wait
//     for the disk; see [DB.Update].
//   - Every entry has a checksum over its bucket, its key and its value, since bbolt
//     checks none of its pages but two. An entry that does not match is not there.
//   - A file that is damaged never ends the process, and never yields other bytes than
//     those that were put. The error is [ErrDamaged], and the next Open returns it too,
//     until [Rebuild] has replaced the file, with what can be read of it.
//   - Deletions work on a full disk; see [Options.Spare].
package index

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/pullthrough/pullthrough/internal/durable"
)

var (
	// ErrDamaged reports a file that cannot be read, or that this package did not write.
	ErrDamaged = errors.New("the index is damaged")
	// ErrInUse reports a file that another process has locked, such as a tool that reads it.
	ErrInUse = errors.New("another process has the index open")
	// ErrClosed reports a DB that is closed.
	ErrClosed = os.ErrClosed
)

// Bucket is a bucket of a DB: the position of its name in Options.Buckets.
type Bucket int

// Options say what Open opens.
type Options struct {
	// Path is the file. No other process may use it: the caller holds a lock.
	Path string
	// Format names what the entries mean. A file of another format counts as damaged.
	Format string
	// Buckets are the names of the buckets.
	Buckets []string
	// Growing is the bucket whose keys only grow. Its pages are filled up. If zero, it is
	// the first one.
	Growing Bucket
	// Spare is a file of [spareBytes] that is given up when the disk is full, so that
	// entries can be deleted: that too writes pages before it frees others. If empty,
	// there is none.
	Spare string
	// Disk writes Spare and the marker beside Path.
	Disk *durable.Disk

	compactGain int64 // if zero, compactGain; tests have smaller files
}

// DB is an open file. It is safe for concurrent use.
type DB struct {
	o    Options
	bolt *bolt.DB
	file *os.File // of bolt

	mu         sync.Mutex // guards the queue
	queue      []*change
	committing bool       // a goroutine works on the queue
	idle       *sync.Cond // signalled when it has ended
	closed     bool

	broken atomic.Pointer[error] // why nothing can be read or written any more

	spent      atomic.Bool // Spare was given up
	spareTried time.Time   // when it was last tried to be made; of the goroutine that commits
}

// Open opens the file, and creates it if it is not there. The error wraps [ErrDamaged]
// if the file cannot be read, or if two processes in a row have ended while they opened
// it.
func Open(o Options) (*DB, error) {
	size, err := durable.Size(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = finishRebuild(o); err == nil {
			size, err = durable.Size(o.Path)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err // nothing is opened through a symbolic link
	}
	tries, err := readMarker(o.Path)
	if err == nil {
		err = o.Disk.Remove(o.Path + newSuffix) // the damage of a former process was none
	}
	if err != nil {
		return nil, err
	}
	if err := writeMarker(o, tries+1); err != nil {
		return nil, err
	}
	db := &DB{o: o}
	db.idle = sync.NewCond(&db.mu)
	if err = db.open(size); err == nil || !errors.Is(err, ErrDamaged) {
		err = errors.Join(err, removeMarker(o))
	}
	if err != nil {
		if db.bolt != nil {
			err = errors.Join(err, db.bolt.Close())
		}
		return nil, err
	}
	db.restoreSpare()
	return db, nil
}

// mapSize is address space, not memory: growing beyond it would have to wait for all
// readers.
func mapSize() int {
	var most int64 = 1 << 34
	if bits.UintSize == 32 {
		most = 1 << 30
	}
	return int(most)
}

// open opens the file. bbolt panics about some damage.
func (db *DB) open(size int64) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	if size == 0 { // with the right mode, whatever the umask is
		if err := db.create(); err != nil {
			return err
		}
	}
	if err := checkShape(db.o.Path); err != nil {
		return err
	}
	if err := db.compact(size); err != nil {
		return damage(err)
	}
	b, f, err := openFile(db.o.Path, db.options(mapSize()))
	if errors.Is(err, syscall.ENOMEM) { // the address space is limited
		b, f, err = openFile(db.o.Path, db.options(0))
	}
	if err != nil {
		return damage(err)
	}
	defer func() {
		if db.bolt == nil {
			letGo(f) // after a panic, since b.Close might wait for ever
		}
	}()
	if err := db.prepare(b); err != nil {
		b.Close()
		return err
	}
	db.bolt, db.file = b, f
	return nil
}

// options are those of the open file, which tests need not sync.
func (db *DB) options(mapSize int) *bolt.Options {
	o := options(mapSize)
	o.NoSync, o.NoGrowSync = db.o.Disk.NoSync, db.o.Disk.NoSync
	return o
}

// openFile opens a file that is there, not through a symbolic link. f is the file of b:
// while it is open, bbolt's lock keeps this process too from opening it again.
func openFile(path string, o *bolt.Options) (b *bolt.DB, f *os.File, err error) {
	o.OpenFile = func(path string, flag int, _ os.FileMode) (_ *os.File, err error) {
		if flag&os.O_RDWR != 0 {
			f, err = durable.OpenWrite(path)
		} else {
			f, _, err = durable.OpenRead(path)
		}
		return f, err
	}
	defer func() {
		if b == nil && f != nil {
			letGo(f) // bbolt panics about some damage, and leaves the file open
		}
	}()
	b, err = bolt.Open(path, 0o600, o)
	return b, f, err
}

// letGo closes a file that bbolt cannot close any more. What is mapped of it stays mapped,
// and would keep the lock.
func letGo(f *os.File) {
	_ = durable.Unlock(f)
	f.Close()
}

// create creates an empty file, if there is none.
func (db *DB) create() error {
	f, err := db.o.Disk.CreateFile(db.o.Path)
	if err == nil {
		err = f.Close()
	}
	if err == nil || errors.Is(err, fs.ErrExist) { // a former process may have ended before the sync
		err = db.o.Disk.SyncFolder(filepath.Dir(db.o.Path))
	}
	if err == nil {
		err = db.o.Disk.Beginning(db.o.Path) // bbolt does, with four pages
	}
	return err
}

// damage returns what an error of opening means: unless it is one of the system, or
// another DB has the file open, bbolt says by it what is wrong with what it read.
func damage(err error) error {
	_, system := errors.AsType[syscall.Errno](err)
	if errors.Is(err, berrors.ErrTimeout) {
		return ErrInUse
	}
	if system {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

func options(mapSize int) *bolt.Options {
	// With the list of free pages on disk: without, bbolt reads the whole file when it
	// opens, on a goroutine of its own whose panics nobody can recover.
	return &bolt.Options{FreelistType: bolt.FreelistMapType, InitialMmapSize: mapSize, NoStatistics: true, Timeout: 1}
}

// The bucket and the key of the format.
var (
	metaBucket = []byte("meta")
	formatKey  = []byte("format")
)

// prepare checks the format and the buckets, and creates them in a new file. It writes
// nothing into another one: a bucket that is not there is damage.
func (db *DB) prepare(b *bolt.DB) error {
	ready := false
	err := b.View(func(tx *bolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta == nil {
			return nil
		}
		if was := meta.Get(formatKey); string(was) != db.o.Format {
			return fmt.Errorf("%w: its format is %.64q, not %q", ErrDamaged, was, db.o.Format)
		}
		for _, name := range db.o.Buckets {
			if tx.Bucket([]byte(name)) == nil {
				return fmt.Errorf("%w: it has no bucket %s", ErrDamaged, name)
			}
		}
		ready = true
		return nil
	})
	if err != nil || ready {
		return err
	}
	if err := db.o.Disk.Beginning(db.o.Path); err != nil {
		return err
	}
	return b.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		for _, name := range db.o.Buckets {
			if err == nil {
				_, err = tx.CreateBucket([]byte(name))
			}
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return meta.Put(formatKey, []byte(db.o.Format))
	})
}

// Close waits for the changes that were handed over, and closes the file.
func (db *DB) Close() error {
	db.mu.Lock()
	db.closed = true
	for db.committing {
		db.idle.Wait()
	}
	db.mu.Unlock()
	if err := db.Err(); err != nil {
		// A panic may have left locks of bbolt held, for which its Close would wait. The
		// file must be closed, so that it can be opened again.
		letGo(db.file)
		return err
	}
	return db.bolt.Close()
}

// Err returns why nothing can be read or written any more, or nil.
func (db *DB) Err() error {
	if err := db.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// Size returns how many bytes of the file are in use or free for new entries.
func (db *DB) Size() (size int64, err error) {
	err = db.view(func(tx *bolt.Tx) error {
		size = tx.Size()
		return nil
	})
	return size, err
}

// isFull reports whether an error says that the disk is full. Some of bbolt's have only
// the text of the error of the system.
func isFull(err error) bool {
	return durable.IsFull(err) || strings.Contains(err.Error(), syscall.ENOSPC.Error())
}
