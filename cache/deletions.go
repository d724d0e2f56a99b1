package cache

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/internal/lru"
)

// deletions says when something was deleted, so that what began before does not bring it
// back, and keeps the deletion of a repository and what is written into it apart. It is
// safe for concurrent use.
type deletions struct {
	times *lru.Cache[tagKey, time.Time] // by tag, or by digest; of a repository as a whole, by neither
	holds *lru.Cache[string, []hold]    // by repository: of deletions that other caches have begun
	told  *lru.Cache[Deletion, telling] // what other caches told of
	era   atomic.Int64                  // grows with each deletion: what was read before may be gone

	mu   sync.Mutex
	busy map[string]*busyRepository
}

// busyRepository is a repository that is written to, or that is being deleted.
type busyRepository struct {
	writes, deletions int
	quiet             chan struct{} // closed when the last of the writes ends; nil if nobody waits for it
}

// hold is the deletion of a repository by another cache, which has not told of its end.
type hold struct {
	told  Deletion
	until time.Time // it counts as a deletion at that time
}

// telling is how much of a deletion another cache has told.
type telling int

const (
	toldNothing telling = iota
	toldBeginning
	toldEnd     // which this cache may have failed to follow
	followedEnd // so that nothing is left to do
)

const (
	manyDeletions = 4096
	manyHolds     = 16 // of one repository
)

func newDeletions() deletions {
	return deletions{
		times: lru.New[tagKey, time.Time](manyDeletions), told: lru.New[Deletion, telling](manyDeletions),
		holds: lru.New[string, []hold](manyDeletions), busy: map[string]*busyRepository{},
	}
}

// note notes that a tag, a digest, or with an empty reference a whole repository was
// deleted at a time, unless it was deleted later.
func (d *deletions) note(repository, reference string, at time.Time) {
	if old, _ := d.times.Get(tagKey{repository, reference}); at.After(old) {
		d.times.Put(tagKey{repository, reference}, at, 1)
	}
}

// last returns when a tag or digest was deleted last, alone or with its repository, or
// the zero time. It lies ahead while another cache deletes the repository.
func (d *deletions) last(repository, reference string) time.Time {
	at, _ := d.times.Get(tagKey{repository, reference})
	whole, _ := d.times.Get(tagKey{repository, ""})
	at = latest(at, whole)
	holds, _ := d.holds.Get(repository)
	for _, h := range holds {
		at = latest(at, h.until)
	}
	return at
}

// hears notes what another cache tells of a deletion, and returns what it told before. It
// holds a repository until it hears of the end of its deletion, for deletionLongest at most.
func (d *deletions) hears(told Deletion, now time.Time) (before telling) {
	k := keyOfTold(told)
	d.mu.Lock()
	defer d.mu.Unlock()
	before, _ = d.told.Get(k)
	if told.Reference != "" {
		d.told.Put(k, followedEnd, 1)
		return before
	}
	if told.Over {
		d.told.Put(k, max(before, toldEnd), 1)
		d.release(k)
	} else if before == toldNothing {
		d.told.Put(k, toldBeginning, 1)
		holds, _ := d.holds.Get(told.Repository)
		holds = append(slices.Clone(holds), hold{k, now.Add(deletionLongest)})
		d.holds.Put(told.Repository, holds[max(0, len(holds)-manyHolds):], 1)
	}
	return before
}

// release ends a hold. d.mu is held.
func (d *deletions) release(k Deletion) {
	holds, _ := d.holds.Get(k.Repository)
	rest := slices.DeleteFunc(slices.Clone(holds), func(h hold) bool { return h.told == k })
	if len(rest) == 0 {
		d.holds.Delete(k.Repository)
		return
	}
	d.holds.Put(k.Repository, rest, 1)
}

// follows notes that what another cache told was followed.
func (d *deletions) follows(told Deletion) {
	if told.Over {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.told.Put(keyOfTold(told), followedEnd, 1)
	}
}

// keyOfTold is what all that is told of one deletion has in common.
func keyOfTold(d Deletion) Deletion {
	d.At, d.Over = d.At.UTC().Round(0), false
	return d
}

// write begins to write into a repository what was begun at a time; done ends it. If the
// repository was deleted since then, or is being deleted, the error is [ErrDeleted].
func (d *deletions) write(repository string, began time.Time) (done func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.busy[repository]; b != nil && b.deletions > 0 || d.last(repository, "").After(began) {
		return nil, ErrDeleted
	}
	b := d.repository(repository)
	b.writes++
	return func() { d.written(repository, b) }, nil
}

// repository returns what is known of a repository that becomes busy. d.mu is held.
func (d *deletions) repository(name string) *busyRepository {
	b := d.busy[name]
	if b == nil {
		b = &busyRepository{}
		d.busy[name] = b
	}
	return b
}

func (d *deletions) written(repository string, b *busyRepository) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.writes--; b.writes > 0 {
		return
	}
	if b.quiet != nil {
		close(b.quiet)
		b.quiet = nil
	}
	d.drop(repository, b)
}

// drop forgets a repository that is not busy any more. d.mu is held.
func (d *deletions) drop(repository string, b *busyRepository) {
	if b.writes == 0 && b.deletions == 0 {
		delete(d.busy, repository)
	}
}

// begin begins the deletion of a repository: nothing that began before end is written
// into it any more.
func (d *deletions) begin(repository string, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note(repository, "", at)
	d.repository(repository).deletions++
}

// wait waits until nothing is written into a repository whose deletion has begun, or for
// ctx, whose cause it returns then.
func (d *deletions) wait(ctx context.Context, repository string) error {
	d.mu.Lock()
	b := d.busy[repository]
	if b == nil || b.writes == 0 {
		d.mu.Unlock()
		return nil
	}
	if b.quiet == nil {
		b.quiet = make(chan struct{})
	}
	quiet := b.quiet
	d.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// end ends the deletion of a repository; what began before that time is not kept.
func (d *deletions) end(repository string, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note(repository, "", at)
	b := d.busy[repository]
	b.deletions--
	d.drop(repository, b)
}
