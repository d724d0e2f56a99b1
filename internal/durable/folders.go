package durable

import (
	"errors"
	"sync"
)

// syncers is how many folders one call of [Folders.Sync] syncs at a time.
const syncers = 16

// Mark is a moment in the life of a folder: see [Folders.Dirty].
type Mark uint64

// Folders syncs folders, and lets concurrent callers share syncs: a sync that has begun
// does not cover a change made after that, but one further sync covers all changes made
// meanwhile. Folders holds an entry only for folders with changes that are not synced.
// The zero value is ready once Disk is set. It is safe for concurrent use.
type Folders struct {
	Disk *Disk

	mu    sync.Mutex
	last  Mark
	dirty map[string]*folder
}

type folder struct {
	mark, done Mark // of the last change, and of the last one that is on disk
	round      *round
}

// round is one sync of one folder.
type round struct {
	mark Mark          // of the last change that it covers
	over chan struct{} // closed when it has ended
	err  error
}

// Dirty notes that the names in a folder changed, and returns the mark that a
// sync must reach to cover the change.
func (f *Folders) Dirty(path string) Mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.dirty[path]
	if e == nil {
		if f.dirty == nil {
			f.dirty = make(map[string]*folder)
		}
		e = new(folder)
		f.dirty[path] = e
	}
	f.last++
	e.mark = f.last
	return e.mark
}

// Pending returns the mark of a folder's last change, or false if it is on disk.
func (f *Folders) Pending(path string) (Mark, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.dirty[path]
	if e == nil {
		return 0, false
	}
	return e.mark, true
}

// All returns the mark of each folder whose last change is not on disk.
func (f *Folders) All() map[string]Mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string]Mark, len(f.dirty))
	for path, e := range f.dirty {
		all[path] = e.mark
	}
	return all
}

// Sync brings the changes of each folder up to its mark to the disk.
func (f *Folders) Sync(want map[string]Mark) error {
	var (
		wait sync.WaitGroup
		mu   sync.Mutex
		errs []error
		slot = make(chan struct{}, syncers)
		n    = 0
	)
	note := func(err error) {
		if err != nil {
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		}
	}
	for path, mark := range want {
		if n++; n == len(want) { // the last one needs no goroutine
			note(f.sync(path, mark))
			break
		}
		slot <- struct{}{}
		wait.Go(func() {
			note(f.sync(path, mark))
			<-slot
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (f *Folders) sync(path string, mark Mark) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		e := f.dirty[path]
		if e == nil || e.done >= mark {
			return nil
		}
		r := e.round
		if r == nil {
			r = f.run(path, e)
		} else {
			f.mu.Unlock()
			<-r.over
			f.mu.Lock()
		}
		if r.err != nil && r.mark >= mark {
			return r.err
		}
	}
}

// run syncs a folder. It is called and returns with the lock held.
func (f *Folders) run(path string, e *folder) *round {
	r := &round{mark: e.mark, over: make(chan struct{})}
	e.round = r
	f.mu.Unlock()
	err := f.Disk.step(OpFolder, path)
	if err == nil && !f.Disk.NoSync {
		err = syncFolder(path)
	}
	f.mu.Lock()
	r.err, e.round = err, nil
	if err == nil {
		e.done = r.mark
		if e.done == e.mark {
			delete(f.dirty, path)
		}
	}
	close(r.over)
	return r
}
