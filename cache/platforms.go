package cache

import (
	"context"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/upstream"
)

// platforms are those that the rule wants copied of every index.
func (p place) platforms() []string { return oci.Selected(p.match.Rule.Platforms) }

// childComplete reports whether an index can be served: one of its images is
// complete, or it has none.
func (e *engine) childComplete(ctx context.Context, p place, m *oci.Manifest) bool {
	images := m.Images()
	for _, d := range images {
		if e.complete(ctx, p, d.Digest) != nil {
			return true
		}
	}
	return len(images) == 0
}

// indexReady reports whether an index waits for nothing any more: one of its
// images is complete, and so is each of the platforms that is on its way.
func (e *engine) indexReady(ctx context.Context, p place, m *oci.Manifest, platforms []string) bool {
	if !e.childComplete(ctx, p, m) {
		return false
	}
	for _, d := range m.Select(platforms) {
		if e.complete(ctx, p, d.Digest) == nil && e.jobs.coming(content{p.repo, d.Digest}) {
			return false
		}
	}
	return true
}

// coming reports whether something is on its way by itself.
func (j *jobs) coming(k content) bool {
	j.lock()
	defer j.unlock()
	t := j.entries[k]
	return t != nil && t.live()
}

// expand has the platforms of an index copied that are wanted whether somebody
// pulls them or not.
func (e *engine) expand(ctx context.Context, p place, m *oci.Manifest, job Job) error {
	selected := m.Select(job.Platforms)
	if len(selected) > 0 {
		if err := e.gate(p); err != nil {
			return err
		}
	}
	for _, d := range selected {
		if e.deleted.after(p.repo, d.Digest.String(), job.Created) {
			continue // only a pull brings it back
		}
		man, err := e.child(ctx, p, d)
		if class, ok := upstream.ClassOf(err); ok && class == upstream.NotFound {
			e.log.Info("a platform of an index is not at its source and is left out", "repository", p.repo, "digest", d.Digest.String(), "rule", p.rule())
			continue
		}
		if err != nil {
			return err
		}
		if man.parsed.Bad != nil {
			continue // it can never be copied, and is not waited for
		}
		if e.complete(ctx, p, d.Digest) == nil {
			if t, _ := e.jobs.add(p, man, Job{Platforms: job.Platforms, Depth: job.Depth, Request: job.Request}); t == nil {
				return ErrTooManyCopies
			}
		}
	}
	return nil
}

// child returns a manifest that an index names: complete, being copied, or from
// the upstream.
func (e *engine) child(ctx context.Context, p place, d ocispec.Descriptor) (*manifest, error) {
	if man := e.complete(ctx, p, d.Digest); man != nil {
		return man, nil
	}
	if man := e.jobs.manifest(p, d.Digest); man != nil {
		return man, nil
	}
	return e.fetchForCopy(ctx, p, d.Digest.String())
}

// fetchForCopy is fetch for which no client waits.
func (e *engine) fetchForCopy(ctx context.Context, p place, reference string) (*manifest, error) {
	release, err := e.turn(ctx, &e.asking, p, true)
	if err != nil {
		return nil, err
	}
	defer release()
	return e.fetchUnless(ctx, p, reference, nil)
}

// referrersMost is how many manifests that refer to one are copied, and referrersDeep
// of what depth that one may be.
const (
	referrersMost = 1000
	referrersDeep = 2
)

// cosignSuffixes are those of the tags under which cosign keeps what belongs to
// the manifest sha256-HEX.
var cosignSuffixes = [...]string{".sig", ".att", ".sbom"}

// copyReferrers has what refers to a manifest copied: signatures, SBOMs and the
// like, by the referrers API or its tag, and those that cosign keeps in tags.
// An upstream that knows no such thing has none.
func (e *engine) copyReferrers(ctx context.Context, p place, job Job) error {
	d := job.Digest
	if err := e.gate(p); err != nil {
		return err
	}
	found, err := e.listReferrers(ctx, p, d)
	if err != nil {
		return err
	}
	for _, r := range found {
		man, err := e.child(ctx, p, r)
		if class, ok := upstream.ClassOf(err); ok && class == upstream.NotFound {
			continue
		}
		if err != nil {
			return err
		}
		if e.complete(ctx, p, r.Digest) == nil {
			if t, _ := e.jobs.add(p, man, Job{Platforms: []string{oci.AllPlatforms}, Depth: job.Depth + 1, Request: job.Request}); t == nil {
				return ErrTooManyCopies
			}
		}
	}
	for _, suffix := range cosignSuffixes {
		if err := e.copyTag(ctx, p, job, d.Algorithm().String()+"-"+d.Encoded()+suffix); err != nil {
			return err
		}
	}
	return nil
}

// listReferrers asks the upstream, page by page. A list that is whole is kept, for
// clients that ask when the upstream cannot be.
func (e *engine) listReferrers(ctx context.Context, p place, d digest.Digest) (found []ocispec.Descriptor, err error) {
	if p, err = e.current(ctx, p); err != nil {
		return nil, err
	}
	l, ok := upstream.As[upstream.ReferrerLister](p.up)
	if !ok {
		return nil, nil
	}
	asked := time.Now()
	query := url.Values{}
	for pages := 0; query != nil && len(found) < referrersMost && pages < referrersMost; pages++ {
		release, err := e.turn(ctx, &e.asking, p, true)
		if err != nil {
			return nil, err
		}
		page, err := l.Referrers(e.withLoop(ctx, p), d, query)
		release()
		e.heard(p, err)
		class, told := upstream.ClassOf(err)
		switch {
		case told && class == upstream.Denied: // no reason to keep the manifest away
			e.log.Warn("what refers to a manifest may not be listed at its source and is not copied", "repository", p.repo, "digest", d.String(), "rule", p.rule(), "err", err)
			return found, nil
		case told && (class == upstream.NotFound || class == upstream.Protocol):
			return found, nil
		case err != nil:
			return nil, err
		}
		found, query = append(found, page.Manifests...), page.Next
	}
	if query == nil {
		e.keepList(p, listQuestion{repo: p.repo, source: p.match.Source, kind: kindReferrers, digest: d}, listAnswer{Asked: asked, Manifests: found})
	}
	return found[:min(len(found), referrersMost)], nil
}

// copyTag has a tag copied that may not exist.
func (e *engine) copyTag(ctx context.Context, p place, job Job, tag string) error {
	asked := e.stored(e.ctx, p, tag).askNow()
	man, err := e.fetchForCopy(ctx, p, tag)
	if class, ok := upstream.ClassOf(err); ok && class == upstream.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	tags := []TagSighting{{Tag: tag, Asked: asked}}
	if t, _ := e.jobs.add(p, man, Job{Tags: tags, Platforms: []string{oci.AllPlatforms}, Depth: job.Depth + 1, Request: job.Request}); t == nil {
		return ErrTooManyCopies
	}
	return nil
}
