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
	// deleted.
	At time.Time `json:"at"`
}

// Forget follows a deletion that another replica of this cache made, with the same rules.
// Copies of what was deleted are given up, and it is forgotten in memory and, if the Store
// is [store.Tiered], in its near store. If the Store is not shared, it is deleted there too, but for a tag that was asked for since. It is no event, and
// nobody is told. To follow a deletion again does no harm. An error that wraps
// [errors.ErrUnsupported] says that the store cannot delete.
func (c *Cache) Forget(ctx context.Context, d Deletion) error {
	e := c.engine()
	if err := d.check(); err != nil {
		return err
	}
	now := time.Now()
	if latest := now.Add(acceptedSkew); d.At.IsZero() || d.At.After(latest) {
		d.At = now
	}
	if d.At.After(e.local.deleted.last(d.Repository, d.Reference)) {
		noted := now // a copy that began before it was known here is given up too
		if d.At.After(now) {
			noted = d.At
		}
		e.giveUp(d, noted)
	}
	defer e.local.deleted.era.Add(1)
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

// giveUp notes a deletion and gives up copies of what is deleted.
func (e *engine) giveUp(d Deletion, at time.Time) {
	e.local.deleted.note(d.Repository, d.Reference, at)
	if d.Reference == "" {
		e.ledger.ForgetRepository(d.Repository)
	} else {
		e.ledger.Forget(d.Repository, d.Reference)
	}
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
				l.dropRead(ctx, r, k.Digest)
			}
		}
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
