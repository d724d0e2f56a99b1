package cache

import (
	"slices"
	"time"

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

// onlyChildTime is how long a client is given to ask for more of an index than one
// of its images.
const onlyChildTime = time.Minute

// onlyChild starts the copy of an image whose config a client asked for, and of
// which it did not ask for a layer, if it did not read another image of the same
// index in the minutes around that: it has the layers already, as a docker, a
// kubelet or a buildkit that gets a cache later. One that reads the manifests of
// all images (ctr) shows by its layers which one it wants.
func (j *jobs) onlyChild(p place, k content, t *jobEntry, asked time.Time) {
	e := j.e
	index, ok := e.children.Get(k)
	if !ok {
		return
	}
	parent := e.complete(e.ctx, p, index)
	if parent == nil {
		if parent = j.manifest(p, index); parent == nil {
			return
		}
	}
	for _, d := range parent.parsed.Images() {
		sibling := j.manifest(p, d.Digest)
		if sibling == nil {
			sibling, _ = e.hot.Get(content{p.repo, d.Digest})
		}
		if d.Digest != k.digest && sibling != nil && time.Unix(0, sibling.read.Load()).After(asked.Add(-onlyChildTime)) {
			return
		}
	}
	j.lock()
	defer j.unlock()
	if j.entries[k] == t && t.state == jobWatching {
		j.start(t)
		j.save(k)
	}
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
	for k, t := range j.repos[p.repo] {
		if t.state == jobWatching && !t.config && t.parsed.Config != nil && t.parsed.Config.Digest == d {
			t.config = true
			asked := time.Now()
			time.AfterFunc(onlyChildTime, func() { j.e.spawn(func() { j.onlyChild(p, k, t, asked) }) })
		}
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
