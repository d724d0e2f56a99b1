package cache

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/store"
)

// ErrDeleted reports something that was deleted while it was copied.
var ErrDeleted = errors.New("cache: it was deleted meanwhile")

// deletedSince reports whether a tag or digest was deleted after a time.
func (l *local) deletedSince(r origin.Repo, reference string, then time.Time) bool {
	return l.deleted.last(r.Name, reference).After(then)
}

// linked notes that a manifest was linked.
func (l *local) linked(ctx context.Context, r origin.Repo, man *oci.Content) {
	l.stats.copied.Add(1)
	l.remember(r, man)
	l.forgetRead(ctx, r, man.Digest)
	l.stored(r.Name, man.Digest)
}

// stands reports whether a tag stands for a digest from the source of r, and by which
// sighting.
func (l *local) stands(ctx context.Context, r origin.Repo, tag string, d digest.Digest) (seen time.Time, ok bool) {
	now, err := l.store.Tag(ctx, r.Name, tag)
	return now.Asked, err == nil && now.Source == r.From && now.Digest == d
}

// takeBackTag deletes a tag that was deleted while it moved, unless it moved again.
func (l *local) takeBackTag(ctx context.Context, r origin.Repo, t ledger.Tag) error {
	s, ok := store.As[store.Deleter](l.store)
	now, err := l.store.Tag(ctx, r.Name, t.Name)
	if !ok || err != nil || !now.Asked.Equal(t.Seen) {
		return nil
	}
	return l.deleteTag(ctx, s, r, t.Name)
}

func (l *local) deleteTag(ctx context.Context, s store.Deleter, r origin.Repo, tag string) error {
	err := s.DeleteTag(ctx, r.Name, tag)
	l.tags.Delete(tagKey{r.Name, tag})
	return err
}

// deleteTags deletes the tags of a manifest, so that none stands for nothing when it is
// deleted.
func (l *local) deleteTags(ctx context.Context, s store.Deleter, r origin.Repo, d digest.Digest) error {
	lister, ok := store.As[store.Lister](l.store)
	if !ok {
		return nil
	}
	for tag, err := range lister.TagNames(ctx, r.Name, "") {
		if err != nil {
			return err
		}
		if t, err := l.store.Tag(ctx, r.Name, tag); err == nil && t.Digest == d {
			if err := l.deleteTag(ctx, s, r, tag); err != nil {
				return err
			}
		}
	}
	return nil
}

// deleteManifest deletes a manifest without its tags.
func (l *local) deleteManifest(ctx context.Context, s store.Deleter, r origin.Repo, d digest.Digest) error {
	err := s.Delete(ctx, r.Name, d)
	l.manifests.Delete(keyOf(r, d))
	return err
}
