package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/internal/route"
	"github.com/pullthrough/pullthrough/store"
)

// Deletion is something that was deleted, as one cache tells it to others.
type Deletion struct {
	Repository string `json:"repository"` // canonical local name
	// Reference is the tag or the digest. If empty, it is the whole repository.
	Reference string `json:"reference,omitempty"`
	// At is when the deletion began: what began before it does not bring back what was
	// deleted. With the names, it tells one deletion from another. If zero, it is now, and
	// the deletion is over.
	At time.Time `json:"at"`
	// Over says that the deletion has ended, which is told after its beginning. If it is that of
	// a whole repository, nothing is kept until then of what is pulled into that, but for no
	// longer than 5 minutes.
	Over bool `json:"over,omitempty"`
}

// Forget follows a deletion that another replica of this cache made, with the same rules.
// Copies of what was deleted are given up, and it is forgotten in memory and, if the Store
// is [store.Tiered], in its near store. If the Store is not shared, it is deleted there too,
// but for a tag that was asked for since. If it is a whole repository, Forget waits up to a
// second for what the Store is being given, which the other replica could not find later. It
// is no event, and nobody is told. To follow a deletion again does no harm. An error that
// wraps [errors.ErrUnsupported] says that the store cannot delete.
func (c *Cache) Forget(ctx context.Context, d Deletion) error {
	e := c.engine()
	if err := d.check(); err != nil {
		return err
	}
	now := time.Now()
	if d.At.IsZero() {
		d.At, d.Over = now, true
	}
	before := e.local.deleted.hears(d, now)
	if before == followedEnd && d.Reference == "" {
		return nil // what began later is not concerned
	}
	told := d
	if d.At.After(now.Add(acceptedSkew)) {
		d.At = now
	}
	after := e.follow(ctx, d, before == toldNothing)
	defer after()
	defer e.local.deleted.era.Add(1)
	if err := e.forgetHere(ctx, d); err != nil {
		return err
	}
	e.local.deleted.follows(told)
	return nil
}

// forgetHere forgets what was deleted elsewhere.
func (e *engine) forgetHere(ctx context.Context, d Deletion) error {
	r, err := e.origins.Find(ctx, d.Repository)
	if err != nil || r.Name != d.Repository {
		r = origin.Repo{Name: d.Repository} // what is here has that name
	}
	e.local.forget(ctx, r, d.Reference)
	if t := e.local.tiered; t != nil {
		return t.Forget(ctx, d.Repository, d.Reference)
	}
	if store.IsShared(e.local.store) {
		return nil // it is deleted there
	}
	return e.local.deleteToo(ctx, r, d)
}

// deletionLongest is how long nothing is kept of what is pulled into a repository that
// another replica deletes, unless that one tells of the end.
const deletionLongest = 5 * time.Minute

// follow gives up copies of what another replica deletes. The function that it returns
// comes after that was forgotten here.
func (e *engine) follow(ctx context.Context, d Deletion, news bool) (after func()) {
	at := latest(d.At, time.Now()) // a copy that began before the deletion was known here is given up too
	if d.Reference != "" {
		if news {
			e.giveUp(d, at)
		}
		return func() {}
	}
	over := e.giveUp(d, at)
	e.letWritesEnd(ctx, d.Repository)
	return func() { over(time.Now()) } // what began beside it may rely on what is gone
}

// latest returns the later one of two times.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// arrived notes that another cache has brought a manifest to the store.
func (l *local) arrived(r origin.Repo, d digest.Digest) {
	if l.tiered != nil {
		l.tiered.Arrived(r.Name, d)
	}
}

func (d Deletion) check() error {
	if d.Reference == "" {
		if !route.ValidName(d.Repository) {
			return routeError(route.ErrName)
		}
		return nil
	}
	if _, err := route.Reference(d.Repository, d.Reference); err != nil {
		return routeError(err)
	}
	return nil
}

// giveUp notes a deletion and gives up copies of what is deleted. When a repository is
// deleted as a whole, nothing is written into it until over is called, and copies that
// began before the time that over is given are given up too, since they may rely on what
// is gone.
func (e *engine) giveUp(d Deletion, at time.Time) (over func(at time.Time)) {
	if d.Reference != "" {
		e.local.deleted.note(d.Repository, d.Reference, at)
		e.ledger.Forget(d.Repository, d.Reference)
		return func(time.Time) {}
	}
	e.local.deleted.begin(d.Repository, at)
	e.ledger.ForgetRepository(d.Repository)
	return func(at time.Time) {
		e.ledger.ForgetRepository(d.Repository)
		e.local.deleted.end(d.Repository, at)
	}
}

// writesLongest is how long Forget waits for what is being written into a repository.
const writesLongest = time.Second

// letWritesEnd gives what is being written into a repository time to end, so that the
// replica that deletes the repository finds it.
func (e *engine) letWritesEnd(ctx context.Context, repository string) {
	ctx, cancel := context.WithTimeout(ctx, writesLongest)
	defer cancel()
	_ = e.local.deleted.wait(ctx, repository)
}

// forget forgets what is remembered of a tag, a digest or a whole repository. Tags and
// small blobs that are not named need the next era of deletions.
func (l *local) forget(ctx context.Context, r origin.Repo, reference string) {
	d := digest.Digest(reference)
	switch {
	case reference == "":
		for k := range l.manifests.All() {
			if k.Repository == r.Name {
				l.manifests.Delete(k)
			}
		}
		l.read.dropAll(ctx, readPrefix(r.Name))
	case d.Validate() == nil:
		l.manifests.Delete(keyOf(r, d))
		l.dropRead(ctx, r, d)
	default:
		l.tags.Delete(tagKey{r.Name, reference})
	}
}

// deleteToo deletes from the store what was deleted elsewhere.
func (l *local) deleteToo(ctx context.Context, r origin.Repo, d Deletion) error {
	s, ok := store.As[store.Deleter](l.store)
	if !ok {
		return fmt.Errorf("cache: the store cannot delete: %w", errors.ErrUnsupported)
	}
	what := digest.Digest(d.Reference)
	switch {
	case d.Reference == "":
		lists, err := l.repositoryLists()
		if err != nil {
			return err
		}
		return l.deleteRepository(ctx, lists, r, func(ctx context.Context, what digest.Digest) error {
			return l.deleteManifest(ctx, s, r, what)
		})
	case what.Validate() == nil:
		if err := l.deleteTags(ctx, s, r, what); err != nil {
			return err
		}
		return l.deleteManifest(ctx, s, r, what)
	}
	if now, err := l.store.Tag(ctx, r.Name, d.Reference); err != nil || now.Asked.After(d.At) {
		return nil
	}
	return l.deleteTag(ctx, s, r, d.Reference)
}

// sharedMemory is how long something is remembered of a store that other processes change.
const sharedMemory = 5 * time.Minute

// forgetOften forgets what is remembered of a shared store, again and again until ctx ends,
// so that what other processes do is seen even if nobody tells of it.
func (l *local) forgetOften(ctx context.Context) {
	tick := time.NewTicker(sharedMemory)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.deleted.era.Add(1) // of tags and small blobs
			for k := range l.manifests.All() {
				l.manifests.Delete(k)
			}
		}
	}
}
