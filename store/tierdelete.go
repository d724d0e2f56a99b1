package store

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
)

// Delete implements [Deleter]: near, so that an error leaves no more than Far has, then
// far, and near again if a reader has brought it there meanwhile.
func (t *Tier) Delete(ctx context.Context, repo string, d digest.Digest) error {
	near, far, err := t.deleters()
	if err != nil {
		return err
	}
	if err := near.Delete(ctx, repo, d); err != nil {
		return err
	}
	err = t.ask(ctx, writePatience, func(ctx context.Context, _ *time.Timer) error { return far.Delete(ctx, repo, d) })
	t.state().memory.deleted(linkOf(repo, d)) // whatever became of it: what comes near from now on is looked at again
	if err != nil {
		return err
	}
	if _, err := t.Near.Stat(ctx, repo, d); errors.Is(err, ErrNotFound) {
		return nil
	}
	return near.Delete(ctx, repo, d)
}

// DeleteTag implements [Deleter], in the order of Delete.
func (t *Tier) DeleteTag(ctx context.Context, repo, tag string) error {
	near, far, err := t.deleters()
	if err != nil {
		return err
	}
	if err := near.DeleteTag(ctx, repo, tag); err != nil {
		return err
	}
	err = t.ask(ctx, writePatience, func(ctx context.Context, _ *time.Timer) error { return far.DeleteTag(ctx, repo, tag) })
	t.state().memory.deleted()
	if err != nil {
		return err
	}
	if _, err := t.Near.Tag(ctx, repo, tag); errors.Is(err, ErrNotFound) {
		return nil
	}
	return near.DeleteTag(ctx, repo, tag)
}

// deleters are both stores.
func (t *Tier) deleters() (near, far Deleter, err error) {
	near, err = able[Deleter](t.Near)
	if err == nil {
		far, err = able[Deleter](t.Far)
	}
	return near, far, err
}

// NearStore implements [Tiered].
func (t *Tier) NearStore() Store { return t.Near }

// Backed implements [Tiered] with Far. What Far was found to have before is not asked
// again.
func (t *Tier) Backed(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	if err := checkContent(ctx, repo, d); err != nil {
		return false, err
	}
	m := &t.state().memory
	k := linkOf(repo, d)
	if m.lacks(k) { // or what it has is damaged
		return false, nil
	}
	if _, ok := m.has(k); ok {
		return true, nil
	}
	era := m.now()
	info, err := t.statFar(ctx, repo, d)
	err = t.learned(repo, d, info, era, ErrNotFound, err)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Forget implements [Tiered].
func (t *Tier) Forget(ctx context.Context, repo, reference string) error {
	near, err := able[Deleter](t.Near)
	if err != nil {
		return err
	}
	m := &t.state().memory
	d := digest.Digest(reference)
	switch {
	case reference == "":
		m.forget()
		err = t.forgetAll(ctx, near, repo)
	case CheckContent(repo, d) == nil:
		m.deleted(linkOf(repo, d))
		err = near.Delete(ctx, repo, d)
	default:
		m.deleted()
		err = near.DeleteTag(ctx, repo, reference)
	}
	return err
}

// Arrived implements [Tiered].
func (t *Tier) Arrived(repo string, d digest.Digest) { t.state().memory.came(linkOf(repo, d)) }

// forgetAll gives up near all of a repository.
func (t *Tier) forgetAll(ctx context.Context, near Deleter, repo string) error {
	if s, ok := As[Lister](t.Near); ok {
		for tag, err := range s.TagNames(ctx, repo, "") {
			if err == nil {
				err = near.DeleteTag(ctx, repo, tag)
			}
			if err != nil {
				return err
			}
		}
	}
	if s, ok := As[ManifestLister](t.Near); ok {
		for m, err := range s.Manifests(ctx, repo) {
			if err == nil {
				err = near.Delete(ctx, repo, m.Digest)
			}
			if err != nil {
				return err
			}
		}
	}
	if s, ok := As[BlobLister](t.Near); ok {
		for b, err := range s.Blobs(ctx, repo) {
			if err == nil {
				err = near.Delete(ctx, repo, b.Digest)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	_ Store          = (*Tier)(nil)
	_ Spooler        = (*Tier)(nil)
	_ Mover          = (*Tier)(nil)
	_ Records        = (*Tier)(nil)
	_ Deleter        = (*Tier)(nil)
	_ Lister         = (*Tier)(nil)
	_ ManifestLister = (*Tier)(nil)
	_ BlobLister     = (*Tier)(nil)
	_ UseRecorder    = (*Tier)(nil)
	_ Sizer          = (*Tier)(nil)
	_ Sharer         = (*Tier)(nil)
	_ Tiered         = (*Tier)(nil)
	_ relay          = (*Tier)(nil)
)
