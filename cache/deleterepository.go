package cache

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sync/errgroup"

	"github.com/pullthrough/pullthrough/store"
)

// deletesAtOnce is how many deletions of one repository are under way at once: each waits
// for the disk, and a store may let them wait together.
const deletesAtOnce = 32

// DeleteRepository forgets everything that is stored in a repository: its tags, its
// manifests with an event for each, and its blobs. Copies into it are given up. The
// upstream is not touched, and the next pull copies again. After an error a part of it
// may be gone; a further call deletes the rest. A store that cannot delete or list is an
// error that wraps [errors.ErrUnsupported].
func (c *Cache) DeleteRepository(ctx context.Context, repository string) error {
	e := c.engine()
	r, err := e.repositoryOf(ctx, repository, AccessManifest)
	if err != nil {
		return err
	}
	deleter, ok := store.As[store.Deleter](e.local.store)
	lister, ok1 := store.As[store.Lister](e.local.store)
	manifests, ok2 := store.As[store.ManifestLister](e.local.store)
	blobs, ok3 := store.As[store.BlobLister](e.local.store)
	if !ok || !ok1 || !ok2 || !ok3 {
		return fmt.Errorf("cache: the store cannot delete a repository: %w", errors.ErrUnsupported)
	}
	e.local.deleted.note(r.Name, "")
	e.ledger.ForgetRepository(r.Name)
	defer e.local.deleted.era.Add(1)
	err = each(ctx, lister.TagNames(ctx, r.Name, ""), func(ctx context.Context, tag string) error {
		return e.local.deleteTag(ctx, deleter, r.Repo, tag)
	})
	if err == nil {
		err = each(ctx, manifests.Manifests(ctx, r.Name), func(ctx context.Context, m store.Info) error {
			if r.Covered() {
				e.local.read.drop(ctx, readKey(r.Repo, m.Digest))
			}
			return e.deleteManifest(ctx, deleter, r, m.Digest)
		})
	}
	if err == nil {
		err = each(ctx, blobs.Blobs(ctx, r.Name), func(ctx context.Context, b store.Info) error {
			return deleter.Delete(ctx, r.Name, b.Digest)
		})
	}
	if err != nil {
		return fmt.Errorf("cache: repository %s: %w", r.Name, err)
	}
	return nil
}

// each calls do with what a list yields, several at once, and returns the first error.
func each[T any](ctx context.Context, list iter.Seq2[T, error], do func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(deletesAtOnce)
	for v, err := range list {
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return do(ctx, v) })
	}
	return g.Wait()
}
