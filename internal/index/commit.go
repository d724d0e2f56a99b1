package index

import (
	"errors"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
)

// maxBatch is how many changes go into one transaction.
const maxBatch = 1024

// change is what one caller of Update wants done.
type change struct {
	do    func(t *Tx) error
	alone func() error // instead of do: done between two transactions
	frees bool
	err   error
	over  bool // err is the answer: it is not done again
	done  chan struct{}
}

// Update calls do with a transaction, and returns when what it wrote is on disk. Changes
// that wait at the same time are done in one transaction, one after the other, in the
// order of the calls.
//
// do may be called more than once, the last time counts. It must return an error only
// if it has written nothing. That error is returned as it is, and harms no other change.
func (db *DB) Update(do func(t *Tx) error) error { return db.update(&change{do: do}) }

// Free is Update for a change that only deletes. It works on a full disk too, at the
// cost of the spare file.
func (db *DB) Free(do func(t *Tx) error) error { return db.update(&change{do: do, frees: true}) }

func (db *DB) update(c *change) error {
	c.done = make(chan struct{})
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return ErrClosed
	}
	db.queue = append(db.queue, c)
	if !db.committing {
		db.committing = true
		go db.commitAll()
	}
	db.mu.Unlock()
	<-c.done
	return c.err
}

// commitAll works until nobody waits.
func (db *DB) commitAll() {
	debug.SetPanicOnFault(true) // of this goroutine, which ends
	for {
		db.mu.Lock()
		batch := next(db.queue)
		db.queue = db.queue[len(batch):]
		if len(batch) == 0 {
			db.queue = nil
			db.committing = false
			db.idle.Broadcast()
			db.mu.Unlock()
			return
		}
		db.mu.Unlock()
		if alone := batch[0].alone; alone != nil {
			batch[0].err = alone()
		} else {
			db.commit(batch)
		}
		for _, c := range batch {
			close(c.done)
		}
	}
}

// next returns the changes at the head of the queue that are done together.
func next(queue []*change) []*change {
	n := min(len(queue), maxBatch)
	for i, c := range queue[:n] {
		if c.alone != nil {
			n = max(i, 1)
			break
		}
	}
	return queue[:n:n]
}

// commit does changes in one transaction. If the disk is full, those that only delete
// are done once more, with the room of the spare file.
func (db *DB) commit(batch []*change) {
	err := db.try(batch)
	if err == nil {
		if db.spent.Load() {
			db.restoreSpare()
		}
		return
	}
	full, again := isFull(err), false
	for _, c := range batch {
		switch {
		case c.over:
		case full && c.frees:
			again = true
		default:
			c.err, c.over = err, true
		}
	}
	if again && db.spend() {
		err = db.try(batch)
	}
	for _, c := range batch {
		if err != nil && !c.over {
			c.err = err
		}
	}
}

// try does the changes that are not over in one transaction. A write that fails spoils it
// for all: then the others are done again without that one.
func (db *DB) try(batch []*change) error {
	for {
		again, err := db.tryOnce(batch)
		if !again {
			return err
		}
	}
}

func (db *DB) tryOnce(batch []*change) (again bool, err error) {
	if err := db.Err(); err != nil {
		return false, err
	}
	defer func() {
		if r := recover(); r != nil {
			again, err = false, db.breaks(r) // locks of bbolt stay held: nothing may be done any more
		}
	}()
	db.bolt.NoSync = db.o.Disk.NoSync
	tx, err := db.bolt.Begin(true)
	if err != nil {
		return false, err
	}
	t := &Tx{o: &db.o, tx: tx, buckets: make([]*bolt.Bucket, len(db.o.Buckets)), expected: make(map[string]uint64)}
	for _, c := range batch {
		if c.over {
			continue
		}
		c.err = c.do(t)
		if t.failed != nil {
			c.err, c.over = t.failed, true
			return true, tx.Rollback()
		}
	}
	if !t.dirty {
		return false, tx.Rollback()
	}
	if err := db.o.Disk.Committing(db.o.Path); err != nil {
		return false, errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		if isFull(err) {
			return false, err
		}
		return false, db.fails(err)
	}
	return false, db.view(func(tx *bolt.Tx) error {
		(&Tx{o: &db.o, tx: tx, buckets: make([]*bolt.Bucket, len(db.o.Buckets))}).proves(t.expected)
		return nil
	})
}
