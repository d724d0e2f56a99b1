package cache

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/store"
)

// deletesAtOnce is how many deletions of one repository are under way at once: each waits
// for the disk, and a store may let them wait together.
const deletesAtOnce = 32

// DeleteRepository forgets everything that is stored in a repository: its tags, its
// manifests with an event for each, and its blobs. It waits until writes into the
// repository that are under way have ended. Copies into it are given up, and of what
// clients pull meanwhile nothing is kept; they get it all the same. The upstream is not touched, and the next
// pull copies again. After an error a part of the repository may be gone; a further call
// deletes the rest. A store that cannot delete or list is an error that wraps
// [errors.ErrUnsupported].
func (c *Cache) DeleteRepository(ctx context.Context, repository string) error {
	e := c.engine()
	r, err := e.repositoryOf(ctx, repository, AccessManifest)
	if err != nil {
		return err
	}
	lists, err := e.local.repositoryLists()
	if err != nil {
		return err
	}
	end, err := e.deleting(ctx, r.Repo, "")
	if err != nil {
		return err
	}
	defer end()
	return e.local.deleteRepository(ctx, lists, r.Repo, func(ctx context.Context, d digest.Digest) error {
		return e.deleteManifest(ctx, lists, r, d)
	})
}

// repositoryLists is what a store must have for the deletion of a repository.
type repositoryLists struct {
	store.Deleter
	store.Lister
	store.ManifestLister
	store.BlobLister
}

func (l *local) repositoryLists() (s repositoryLists, err error) {
	var ok, ok1, ok2, ok3 bool
	s.Deleter, ok = store.As[store.Deleter](l.store)
	s.Lister, ok1 = store.As[store.Lister](l.store)
	s.ManifestLister, ok2 = store.As[store.ManifestLister](l.store)
	s.BlobLister, ok3 = store.As[store.BlobLister](l.store)
	if !ok || !ok1 || !ok2 || !ok3 {
		return s, fmt.Errorf("cache: the store cannot delete a repository: %w", errors.ErrUnsupported)
	}
	return s, nil
}

// deleteRepository deletes what is stored in a repository: its tags, each manifest by
// manifest, and its blobs.
func (l *local) deleteRepository(ctx context.Context, s repositoryLists, r origin.Repo, manifest func(context.Context, digest.Digest) error) error {
	err := each(ctx, s.TagNames(ctx, r.Name, ""), func(ctx context.Context, tag string) error {
		return l.deleteTag(ctx, s, r, tag)
	})
	if err == nil {
		err = each(ctx, s.Manifests(ctx, r.Name), func(ctx context.Context, m store.Info) error {
			return manifest(ctx, m.Digest)
		})
	}
	if err == nil {
		err = each(ctx, s.Blobs(ctx, r.Name), func(ctx context.Context, b store.Info) error {
			return s.Delete(ctx, r.Name, b.Digest)
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
