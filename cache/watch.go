package cache

import (
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/oci"
)

// lacking returns the layers of a manifest, nil if all are here.
func (e *engine) lacking(p place, m *oci.Manifest) map[digest.Digest]bool {
	lacks := false
	unasked := map[digest.Digest]bool{}
	for _, d := range m.Layers {
		unasked[d.Digest] = true
		if !e.linked(e.ctx, p, d.Digest) {
			lacks = true
		}
	}
	if !lacks {
		return nil
	}
	return unasked
}

// wants notes that a client asks for a blob. Of the manifests that are watched,
// one counts as pulled when it alone still lacks that layer, or when all its
// layers were asked for.
func (j *jobs) wants(p place, d digest.Digest) {
	if j.watched.Load() == 0 {
		return
	}
	lacking := 0
	if !j.e.linked(j.e.ctx, p, d) {
		lacking = 1
	}
	j.lock()
	defer j.unlock()
	var watching []*jobEntry
	owners := 0
	for _, t := range j.repos[p.repo] {
		has := slices.ContainsFunc(t.parsed.Layers, func(l ocispec.Descriptor) bool { return l.Digest == d })
		if !has {
			continue
		}
		owners++
		if t.state == jobWatching {
			delete(t.unasked, d)
			watching = append(watching, t)
		}
	}
	for _, t := range watching {
		if owners == lacking || len(t.unasked) == 0 {
			j.start(t)
			j.save(content{t.job.Repository, t.job.Digest})
		}
	}
}
