package cache

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/route"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// Tags yields the tags of a repository after last, or all if last is empty, as tags/list
// answers them: of a repository that a rule covers they are the upstream's, or the last
// ones that were seen while it cannot be asked; of a plain one they are what is stored. An
// error, which is an [*Error], is the last thing that is yielded.
func (c *Cache) Tags(ctx context.Context, repository, last string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		e := c.engine()
		r, err := e.repositoryOf(ctx, repository, AccessTags)
		if err != nil {
			yield("", err)
			return
		}
		if !r.Covered() {
			lister, ok := store.As[store.Lister](e.local.store)
			if !ok {
				yield("", errStoreLists)
				return
			}
			e.yieldStored(r, AccessTags, lister.TagNames(ctx, r.Name, last), yield)
			return
		}
		query := url.Values{}
		if last != "" {
			query.Set("last", last)
		}
		e.pages(ctx, r, listQuestion{kind: AccessTags}, query, func(a listAnswer) bool {
			for _, tag := range a.Tags {
				if !yield(tag, nil) {
					return false
				}
			}
			return true
		}, func(err error) { yield("", err) })
	}
}

// Referrers yields what refers to a manifest, as the referrers API answers it; with an
// artifactType, only what is of that type. An error, which is an [*Error], is the last
// thing that is yielded.
func (c *Cache) Referrers(ctx context.Context, repository string, d digest.Digest, artifactType string) iter.Seq2[ocispec.Descriptor, error] {
	return func(yield func(ocispec.Descriptor, error) bool) {
		e := c.engine()
		r, err := e.nameDigest(ctx, AccessReferrers, repository, d)
		if err != nil {
			yield(ocispec.Descriptor{}, err)
			return
		}
		if !r.Covered() {
			page, err := e.storedReferrers(ctx, r, d, artifactType)
			for _, desc := range page.Manifests {
				if !yield(desc, nil) {
					return
				}
			}
			if err != nil {
				yield(ocispec.Descriptor{}, failure(r.Repo, AccessReferrers, d.String(), err))
			}
			return
		}
		query := url.Values{}
		if artifactType != "" {
			query.Set("artifactType", artifactType)
		}
		e.pages(ctx, r, listQuestion{kind: AccessReferrers, digest: d}, query, func(a listAnswer) bool {
			for _, desc := range a.Manifests {
				if !yield(desc, nil) {
					return false
				}
			}
			return true
		}, func(err error) { yield(ocispec.Descriptor{}, err) })
	}
}

// Repositories yields the repositories that have something stored, after last, or all if
// last is empty, as /v2/_catalog answers them. An error, which is an [*Error], is the
// last thing that is yielded.
func (c *Cache) Repositories(ctx context.Context, last string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		e := c.engine()
		lister, ok := store.As[store.Lister](e.local.store)
		if !ok {
			yield("", errStoreLists)
			return
		}
		e.yieldStored(repository{}, AccessCatalog, lister.Repositories(ctx, last), yield)
	}
}

// StoredManifest is a manifest that is stored with all that it names.
type StoredManifest struct {
	ocispec.Descriptor
	// Bytes is the size of the manifest and of the blobs that it names; of an index, that
	// of the index alone.
	Bytes int64
	// LastUse is when a client pulled the manifest last. If this process does not
	// remember it, it is the hour that the store has recorded, or the zero time if the store
	// is no [store.UseRecorder].
	LastUse time.Time
}

// Manifests yields the manifests that are stored in a repository, in the order of their
// digests. An error, which is an [*Error], is the last thing that is yielded.
func (c *Cache) Manifests(ctx context.Context, repository string) iter.Seq2[StoredManifest, error] {
	return func(yield func(StoredManifest, error) bool) {
		e := c.engine()
		r, err := e.repositoryOf(ctx, repository, AccessManifest)
		if err != nil {
			yield(StoredManifest{}, err)
			return
		}
		lister, ok := store.As[store.ManifestLister](e.local.store)
		if !ok {
			yield(StoredManifest{}, errStoreLists)
			return
		}
		for info, err := range lister.Manifests(ctx, r.Name) {
			if err != nil {
				yield(StoredManifest{}, failure(r.Repo, AccessManifest, "", err))
				return
			}
			man := e.local.manifest(ctx, r.Repo, info.Digest)
			if man == nil {
				continue // deleted meanwhile, or from another source than the rule's
			}
			m := StoredManifest{Descriptor: info.Descriptor, Bytes: man.Size, LastUse: man.LastUse()}
			if m.LastUse.IsZero() {
				m.LastUse = info.Use.Last
			}
			for _, b := range man.Parsed.Blobs() {
				m.Bytes += b.Size
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// repositoryOf finds a repository whose name comes from Go.
func (e *engine) repositoryOf(ctx context.Context, name string, k AccessKind) (repository, error) {
	if !route.ValidName(name) {
		return repository{}, routeError(route.ErrName)
	}
	found, err := e.origins.Find(ctx, name)
	if err != nil {
		return repository{}, failure(found, k, "", err)
	}
	return repository{Repo: found.Under(ctx), began: time.Now()}, nil
}

// yieldStored yields names that are stored.
func (e *engine) yieldStored(r repository, k AccessKind, names iter.Seq2[string, error], yield func(string, error) bool) {
	for name, err := range names {
		if err != nil {
			err = failure(r.Repo, k, "", err)
		}
		if !yield(name, err) || err != nil {
			return
		}
	}
}

// maxPages is how many pages of a list are asked for, and more than any honest list has.
const maxPages = 10000

// pages asks for a list page by page, until there are no more or each returns false.
func (e *engine) pages(ctx context.Context, r repository, q listQuestion, query url.Values, each func(listAnswer) bool, fail func(error)) {
	q.repository, q.source = r.Name, r.Match.Source
	for range maxPages {
		q.query = query.Encode()
		release, err := r.Acquire(ctx, &e.listing, false)
		if err != nil {
			fail(failure(r.Repo, q.kind, "", err))
			return
		}
		a, _ := e.list(ctx, r.Repo, q)
		release()
		if a.err != nil {
			fail(failure(r.Repo, q.kind, "", a.err))
			return
		}
		if !each(a) || a.Next == "" {
			return
		}
		query = a.next()
	}
	fail(failure(r.Repo, q.kind, "", fmt.Errorf("cache: a list of more than %d pages", maxPages)))
}

// storedReferrers lists what refers to a manifest in a plain repository.
func (e *engine) storedReferrers(ctx context.Context, r repository, d digest.Digest, artifactType string) (upstream.ReferrerPage, error) {
	var page upstream.ReferrerPage
	lister, ok := store.As[store.Lister](e.local.store)
	if !ok {
		return page, errStoreLists
	}
	for desc, err := range lister.Referrers(ctx, r.Name, d) {
		if err != nil {
			return page, err
		}
		page.Manifests = append(page.Manifests, desc)
	}
	return page.Filter(artifactType), nil
}
