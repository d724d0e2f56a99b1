package store

import (
	"fmt"
	"time"
)

const (
	// minFree is MinFree if that is zero.
	minFree = 0.05
	// The free space is looked up again after freeEvery, or after freeBytes were
	// written.
	freeEvery = time.Second
	freeBytes = 16 << 20
	// clearEvery is how often old parts are looked for.
	clearEvery = time.Hour
)

// room returns ErrFull if too little space is left to begin something, and errClosed
// after Close.
func (d *Dir) room() error {
	if d.closed.Load() {
		return errClosed
	}
	limit := d.MinFree
	if limit == 0 {
		limit = minFree
	}
	if limit < 0 {
		return nil
	}
	if d.askDue() {
		d.ask(limit)
	}
	if d.full.Load() {
		return fmt.Errorf("%w: less than %.0f %% of the file system of %s is free", ErrFull, 100*limit, d.root)
	}
	return nil
}

// writing counts n bytes that are about to be written. Like room, it returns ErrFull
// if too little space is left, but most calls do not look.
func (d *Dir) writing(n int) error {
	if d.written.Add(int64(n)) < freeBytes && !d.full.Load() {
		return nil
	}
	return d.room()
}

func (d *Dir) askDue() bool {
	at, now := d.freeAt.Load(), time.Now().UnixNano()
	return at == 0 || now-at > int64(freeEvery) || now < at || d.written.Load() >= freeBytes
}

// ask looks up the free space. If it is too little, ask removes parts that are not
// open until it is enough or none is left.
func (d *Dir) ask(limit float64) {
	d.freeing.Lock()
	defer d.freeing.Unlock()
	if !d.askDue() {
		return // another caller has just done it
	}
	short := func() bool {
		free, all, known := d.free(d.root)
		return known && float64(free) < limit*float64(all)
	}
	full := short()
	if full {
		_, _ = d.drop(func(part) bool { full = short(); return full })
		full = full && short()
	}
	d.written.Store(0)
	d.full.Store(full)
	d.freeAt.Store(time.Now().UnixNano())
}

// freeBytes returns how many bytes the file system has beyond MinFree, or -1 if that is
// not known.
func (d *Dir) freeBytes() int64 {
	limit := d.MinFree
	if limit == 0 {
		limit = minFree
	}
	free, all, known := d.free(d.root)
	if !known {
		return -1
	}
	return max(0, free-int64(max(0, limit)*float64(all)))
}
