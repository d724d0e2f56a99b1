package cache

import (
	"context"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/upstream"
)

// indexReady reports whether an index waits for nothing any more: one of its images is
// stored, and so is each of the platforms that is being copied.
func (w *worker) indexReady(ctx context.Context, r origin.Repo, m *oci.Manifest, platforms []string) bool {
	if !w.local.anyImage(ctx, r, m) {
		return false
	}
	for _, d := range m.Select(platforms) {
		if w.local.manifest(ctx, r, d.Digest) == nil && w.ledger.Coming(keyOf(r, d.Digest)) {
			return false
		}
	}
	return true
}

// addPlatforms has the platforms of an index copied that are wanted whether a client
// pulls them or not.
func (w *worker) addPlatforms(ctx context.Context, r origin.Repo, m *oci.Manifest, job ledger.Job) error {
	selected := m.Select(job.Platforms)
	if len(selected) == 0 {
		return nil
	}
	if err := notDown(r); err != nil {
		return err
	}
	for _, d := range selected {
		if w.local.deletedSince(r, d.Digest.String(), job.Created) {
			continue // only a pull brings it back
		}
		man, err := w.partForNobody(ctx, r, d)
		if class, ok := upstream.ClassOf(err); ok && class == upstream.NotFound {
			w.log.Info("a platform of an index is not at its source and is left out", "repository", r.Name, "digest", d.Digest.String(), "rule", r.Rule())
			continue
		}
		if err != nil {
			return err
		}
		if man.Parsed.Bad != nil {
			continue // it can never be copied, and is not waited for
		}
		if w.local.manifest(ctx, r, d.Digest) == nil {
			if err := w.add(ctx, r, man, job, ledger.Job{Platforms: job.Platforms, Depth: job.Depth}); err != nil {
				return err
			}
		}
	}
	return nil
}

// add adds the copy job of a manifest that the manifest of another job leads to.
func (w *worker) add(ctx context.Context, r origin.Repo, man *oci.Content, from, job ledger.Job) error {
	switch {
	case w.local.deletedSince(r, "", from.Created):
		return ErrDeleted
	case w.local.deletedSince(r, man.Digest.String(), from.Created):
		return nil // only a pull brings it back
	}
	job.Repository, job.Source, job.Request = from.Repository, from.Source, from.Request
	_, err := w.ledger.Add(ctx, r.Values(), man, job, w.local.facts(ctx, r, man, nil))
	return err
}

// part returns a manifest that another one names: stored, being copied, or from the
// upstream.
func (w *worker) part(ctx context.Context, r origin.Repo, d ocispec.Descriptor) (*oci.Content, error) {
	if man := w.partHere(ctx, r, d); man != nil {
		return man, nil
	}
	return w.fetcher.manifestForCopy(ctx, r, d.Digest.String())
}

// partForNobody is part for a copy that nobody waits for: the rest of an upstream's budget
// is not for it.
func (w *worker) partForNobody(ctx context.Context, r origin.Repo, d ocispec.Descriptor) (*oci.Content, error) {
	if man := w.partHere(ctx, r, d); man != nil {
		return man, nil
	}
	if err := r.Spared(); err != nil {
		return nil, err
	}
	return w.fetcher.manifestForCopy(ctx, r, d.Digest.String())
}

func (w *worker) partHere(ctx context.Context, r origin.Repo, d ocispec.Descriptor) *oci.Content {
	if man := w.local.manifest(ctx, r, d.Digest); man != nil {
		return man
	}
	return w.ledger.Find(keyOf(r, d.Digest), r.Match.Source)
}

// referrersMost is how many manifests that refer to one are copied, and referrersDeep
// of what depth that one may be: a chain of referrers has no end if its upstream makes
// it up.
const (
	referrersMost = 1000
	referrersDeep = 2
)

// cosignSuffixes are those of the tags under which cosign keeps what belongs to
// the manifest sha256-HEX.
var cosignSuffixes = [...]string{".sig", ".att", ".sbom"}

// addReferrers has what refers to a manifest copied: signatures, SBOMs and the like, by
// the referrers API or its tag, and those that cosign keeps in tags. An upstream that
// knows no such thing has none.
func (w *worker) addReferrers(ctx context.Context, r origin.Repo, job ledger.Job) error {
	d := job.Digest
	if err := notDown(r); err != nil {
		return err
	}
	if err := r.Spared(); err != nil {
		return err
	}
	found, err := w.listReferrers(ctx, r, d)
	if err != nil {
		return err
	}
	referrer := ledger.Job{Platforms: []string{oci.AllPlatforms}, Depth: job.Depth + 1}
	for _, desc := range found {
		man, err := w.partForNobody(ctx, r, desc)
		if class, ok := upstream.ClassOf(err); ok && class == upstream.NotFound {
			continue
		}
		if err != nil {
			return err
		}
		if w.local.manifest(ctx, r, desc.Digest) == nil {
			if err := w.add(ctx, r, man, job, referrer); err != nil {
				return err
			}
		}
	}
	for _, suffix := range cosignSuffixes {
		if err := w.addTag(ctx, r, job, referrer, d.Algorithm().String()+"-"+d.Encoded()+suffix); err != nil {
			return err
		}
	}
	return nil
}

// listReferrers asks the upstream, page by page. A list that is whole is kept, for
// clients that ask when the upstream cannot be asked.
func (w *worker) listReferrers(ctx context.Context, r origin.Repo, d digest.Digest) (found []ocispec.Descriptor, err error) {
	asked, query := time.Now(), url.Values{}
	for pages := 0; query != nil && len(found) < referrersMost && pages < referrersMost; pages++ {
		page, err := referrersForCopy(ctx, r, d, query)
		class, known := upstream.ClassOf(err)
		switch {
		case known && class == upstream.Denied: // no reason to keep the manifest away
			w.log.Warn("what refers to a manifest may not be listed at its source and is not copied", "repository", r.Name, "digest", d.String(), "rule", r.Rule(), "err", err)
			return found, nil
		case known && (class == upstream.NotFound || class == upstream.Protocol), err == origin.ErrNoList:
			return found, nil
		case err != nil:
			return nil, err
		}
		found, query = append(found, page.Manifests...), page.Next
	}
	if query == nil {
		q := listQuestion{repository: r.Name, source: r.Match.Source, kind: AccessReferrers, digest: d}
		w.lists.keep(r, q, listAnswer{Asked: asked, Manifests: found})
	}
	return found[:min(len(found), referrersMost)], nil
}

func referrersForCopy(ctx context.Context, r origin.Repo, d digest.Digest, query url.Values) (upstream.ReferrerPage, error) {
	slot, err := r.Slot(ctx, true)
	if err != nil {
		return upstream.ReferrerPage{}, err
	}
	defer slot.Release()
	return slot.Referrers(ctx, d, query)
}

// addTag has a tag copied that may not exist.
func (w *worker) addTag(ctx context.Context, r origin.Repo, from, job ledger.Job, tag string) error {
	if err := r.Spared(); err != nil {
		return err
	}
	asked := w.local.tag(ctx, r, tag).askNow()
	man, err := w.fetcher.manifestForCopy(ctx, r, tag)
	if class, ok := upstream.ClassOf(err); ok && class == upstream.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	job.Tags = []ledger.Tag{{Name: tag, Seen: asked}}
	return w.add(ctx, r, man, from, job)
}
