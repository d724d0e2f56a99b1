package store

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// relays implements relay: spools, records, uses and sizes are those of Near, lists those of
// Far, tags are moved by Far, and what is deleted is deleted in both.
func (t *Tier) relays(ability any) bool {
	switch ability.(type) {
	case *Spooler:
		return has[Spooler](t.Near)
	case *Records:
		return has[Records](t.Near)
	case *UseRecorder:
		return has[UseRecorder](t.Near)
	case *Sizer:
		return has[Sizer](t.Near)
	case *Deleter:
		return has[Deleter](t.Near) && has[Deleter](t.Far)
	case *Mover:
		return has[Mover](t.Far)
	case *Lister:
		return has[Lister](t.Far)
	case *ManifestLister:
		return has[ManifestLister](t.Far)
	case *BlobLister:
		return has[BlobLister](t.Far)
	}
	return true
}

// able returns an ability of one of the stores, or errors.ErrUnsupported.
func able[T any](s Store) (T, error) {
	a, ok := As[T](s)
	if !ok {
		return a, errors.ErrUnsupported
	}
	return a, nil
}

// Spool implements [Spooler] with Near.
func (t *Tier) Spool(ctx context.Context, repo string, want Info) (Spool, error) {
	s, err := able[Spooler](t.Near)
	if err != nil {
		return nil, err
	}
	if err := t.staysManifest(ctx, repo, want.Digest); err != nil {
		return nil, err
	}
	return s.Spool(ctx, repo, want)
}

// PutRecord implements [Records] with Near.
func (t *Tier) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	s, err := able[Records](t.Near)
	if err != nil {
		return err
	}
	return s.PutRecord(ctx, kind, key, data)
}

// Record implements [Records] with Near.
func (t *Tier) Record(ctx context.Context, kind, key string) ([]byte, error) {
	s, err := able[Records](t.Near)
	if err != nil {
		return nil, err
	}
	return s.Record(ctx, kind, key)
}

// DeleteRecord implements [Records] with Near.
func (t *Tier) DeleteRecord(ctx context.Context, kind, key string) error {
	s, err := able[Records](t.Near)
	if err != nil {
		return err
	}
	return s.DeleteRecord(ctx, kind, key)
}

// RecordKeys implements [Records] with Near.
func (t *Tier) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	s, err := able[Records](t.Near)
	if err != nil {
		return failed[string](err)
	}
	return s.RecordKeys(ctx, kind)
}

// RecordUse implements [UseRecorder] with Near.
func (t *Tier) RecordUse(repo string, d digest.Digest) {
	if s, ok := As[UseRecorder](t.Near); ok {
		s.RecordUse(repo, d)
	}
}

// Size implements [Sizer]. It is the size of Near.
func (t *Tier) Size(ctx context.Context) (Size, error) {
	s, err := able[Sizer](t.Near)
	if err != nil {
		return Size{}, err
	}
	return s.Size(ctx)
}

// RepositorySize implements [Sizer]. It is the size of what is near.
func (t *Tier) RepositorySize(ctx context.Context, repo string) (int64, error) {
	s, err := able[Sizer](t.Near)
	if err != nil {
		return 0, err
	}
	return s.RepositorySize(ctx, repo)
}

// Shared implements [Sharer]: Far says it.
func (t *Tier) Shared() bool { return IsShared(t.Far) }

// listPatience is how long the next entry of a list may take.
const listPatience = 10 * time.Second

// failed is a list that fails.
func failed[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		yield(none, err)
	}
}

// listFar yields a list of Far. Near does not stand in: a list is whole or fails.
func listFar[T any](ctx context.Context, t *Tier, check error, list func(ctx context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	if check != nil {
		return failed[T](check)
	}
	return func(yield func(T, error) bool) {
		var none T
		c, err := t.call(ctx, listPatience)
		if err != nil {
			yield(none, err)
			return
		}
		for v, err := range list(c.ctx) {
			c.clock.Stop()
			if err != nil {
				yield(none, c.end(err))
				return
			}
			c.answered() // others need not wait for the reader of the list
			if !yield(v, nil) {
				break
			}
			c.clock.Reset(listPatience)
		}
		_ = c.end(nil)
	}
}

// Repositories implements [Lister] with Far.
func (t *Tier) Repositories(ctx context.Context, last string) iter.Seq2[string, error] {
	s, err := able[Lister](t.Far)
	return listFar(ctx, t, err, func(ctx context.Context) iter.Seq2[string, error] { return s.Repositories(ctx, last) })
}

// TagNames implements [Lister] with Far.
func (t *Tier) TagNames(ctx context.Context, repo, last string) iter.Seq2[string, error] {
	s, err := able[Lister](t.Far)
	if err == nil {
		err = checkRepository(repo)
	}
	return listFar(ctx, t, err, func(ctx context.Context) iter.Seq2[string, error] { return s.TagNames(ctx, repo, last) })
}

// Referrers implements [Lister] with Far.
func (t *Tier) Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[ocispec.Descriptor, error] {
	s, err := able[Lister](t.Far)
	if err == nil {
		err = checkContent(ctx, repo, d)
	}
	return listFar(ctx, t, err, func(ctx context.Context) iter.Seq2[ocispec.Descriptor, error] { return s.Referrers(ctx, repo, d) })
}

// Manifests implements [ManifestLister]: those of Far, and those that only Near has since
// another process has deleted them.
func (t *Tier) Manifests(ctx context.Context, repo string) iter.Seq2[Info, error] {
	far, err := able[ManifestLister](t.Far)
	if err == nil {
		err = checkRepository(repo)
	}
	list := listFar(ctx, t, err, func(ctx context.Context) iter.Seq2[Info, error] { return far.Manifests(ctx, repo) })
	if near, ok := As[ManifestLister](t.Near); ok && err == nil {
		return merged(near.Manifests(ctx, repo), list)
	}
	return list
}

// Blobs implements [BlobLister]: those of Far, and those that only Near has since no
// manifest that names them was committed.
func (t *Tier) Blobs(ctx context.Context, repo string) iter.Seq2[Info, error] {
	far, err := able[BlobLister](t.Far)
	if err == nil {
		err = checkRepository(repo)
	}
	list := listFar(ctx, t, err, func(ctx context.Context) iter.Seq2[Info, error] { return far.Blobs(ctx, repo) })
	if near, ok := As[BlobLister](t.Near); ok && err == nil {
		return merged(near.Blobs(ctx, repo), list)
	}
	return list
}

// merged yields the content of two lists in the order of the digests. What both have is as
// the first has it.
func merged(a, b iter.Seq2[Info, error]) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		next, stop := iter.Pull2(b)
		defer stop()
		other, err, more := next()
		for info, aerr := range a {
			for ; more && err == nil && aerr == nil && strings.Compare(string(other.Digest), string(info.Digest)) < 0; other, err, more = next() {
				if !yield(other, nil) {
					return
				}
			}
			if aerr != nil {
				yield(Info{}, aerr)
				return
			}
			if more && other.Digest == info.Digest {
				other, err, more = next()
			}
			if !yield(info, nil) {
				return
			}
		}
		for ; more; other, err, more = next() {
			if !yield(other, err) || err != nil {
				return
			}
		}
	}
}
