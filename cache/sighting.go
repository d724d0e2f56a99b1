package cache

import (
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
)

// sightingTime is how long a sighting counts.
const sightingTime = 10 * time.Minute

// sighting is a tag seen to stand for a digest, before that digest is stored here.
// containerd and docker ask for the tag by HEAD and for the content by digest; sightings
// are what ties the two together.
type sighting struct {
	digest digest.Digest
	from   string
	seen   time.Time
}

// sightings are in memory and bounded, and indexed by digest so that a warm pull costs
// one look.
type sightings struct {
	newest *lru.Cache[tagKey, sighting]
	tags   *lru.Cache[ledger.Key, []string] // those that may stand for a digest
}

func (s *sightings) init(n int64) {
	s.newest = lru.New[tagKey, sighting](n)
	s.tags = lru.New[ledger.Key, []string](n)
}

// add records a sighting, unless a later one of the tag is known.
func (s *sightings) add(r origin.Repo, tag string, d digest.Digest, seen time.Time) {
	newer := true
	s.newest.Update(tagKey{r.Name, tag}, func(old sighting, ok bool) (sighting, int64, bool) {
		if ok && old.seen.After(seen) {
			newer = false
			return old, 1, true
		}
		return sighting{d, r.From, seen}, 1, true
	})
	if !newer {
		return
	}
	s.tags.Update(keyOf(r, d), func(tags []string, _ bool) ([]string, int64, bool) {
		if slices.Contains(tags, tag) {
			return tags, 1, true
		}
		return append(tags[:len(tags):len(tags)], tag), int64(len(tags) + 1), true
	})
}

// has reports whether a tag was seen to stand for a manifest that was not copied yet.
func (s *sightings) has(k ledger.Key) bool {
	if s.tags.Empty() {
		return false
	}
	_, ok := s.tags.Get(k)
	return ok
}

// take returns the tags whose newest sighting is d, and forgets that they may stand for
// it: the caller sees to them.
func (s *sightings) take(r origin.Repo, d digest.Digest) []ledger.Tag {
	k := keyOf(r, d)
	if !s.has(k) {
		return nil
	}
	var tags []string
	s.tags.Update(k, func(old []string, _ bool) ([]string, int64, bool) {
		tags = old
		return nil, 0, false
	})
	var found []ledger.Tag
	for _, tag := range tags {
		n, ok := s.newest.Get(tagKey{r.Name, tag})
		if ok && n.digest == d && n.from == r.From && time.Since(n.seen) < sightingTime {
			found = append(found, ledger.Tag{Name: tag, Seen: n.seen})
		}
	}
	return found
}

// recordWait is how long a request waits for the record of its copy job. A disk that is
// slower is trouble of the store, not of the client.
const recordWait = time.Second

// submit asks for the copy of a manifest that was just served, with the tags that were
// seen to stand for it. When it returns, a crash does not lose the copy job. since is the
// look at the store that found that the manifest is not stored; unseen if there was none.
// What was deleted while it was pulled is not copied; the result is false then.
func (e *engine) submit(r repository, man *oci.Content, since look) bool {
	if e.local.deletedSince(r.Repo, man.Digest.String(), r.began) {
		return false
	}
	k := keyOf(r.Repo, man.Digest)
	tags := e.sightings.take(r.Repo, man.Digest)
	_, part := e.local.indexes.Get(k)
	read := time.Now()
	job := ledger.Job{
		Repository: r.Name, Source: r.Match.Source, Tags: tags, Platforms: oci.Selected(r.Match.Rule.Platforms),
		OnDemand: part && len(tags) == 0,
	}
	if e.ledger.Find(k, job.Source) == nil {
		job.Request = e.request(r.cause)
	}
	facts := e.local.facts(e.ctx, r.Repo, man, func() bool { return since.holds(e.ledger, k) })
	add := func(ctx context.Context) {
		h, err := e.ledger.Add(ctx, r.Values(), man, job, func(layers bool) ledger.Facts {
			f := facts(layers)
			f.Needless = f.Stored && len(tags) == 0
			return f
		})
		if h == nil && err == nil {
			return // it is stored, and no tag moves
		}
		if part && !e.local.wasRead(r.Repo, man.Digest) {
			e.work.Go(func() { e.local.keepRead(e.ctx, r.Repo, man, read) })
		}
		if err == nil { // the ledger logs what it drops
			h.Recorded(ctx)
		}
	}
	ctx, cancel := context.WithTimeout(e.ctx, recordWait)
	defer cancel()
	if e.ledger.Ready(ctx) != nil { // a slow disk is no trouble of the client
		e.work.Go(func() { add(e.ctx) })
		return true
	}
	add(ctx)
	return true
}

// look is when the store was asked for a manifest and did not have it: what
// [ledger.Ledger.Changed] said just before that.
type look struct {
	changed uint64
	seen    bool
}

// unseen is no look at all.
var unseen look

// holds reports whether the manifest is still not stored.
func (l look) holds(of *ledger.Ledger, k ledger.Key) bool {
	return l.seen && of.Changed(k) == l.changed
}

// find returns a stored manifest, as local.manifest does, or else the look that did not
// find it.
func (e *engine) find(ctx context.Context, r origin.Repo, d digest.Digest) (*oci.Content, look) {
	at := look{e.ledger.Changed(keyOf(r, d)), true}
	if man := e.local.manifest(ctx, r, d); man != nil {
		return man, unseen
	}
	if ctx.Err() != nil { // perhaps that is why
		return nil, unseen
	}
	return nil, at
}

// sighted sees to tags that were seen to stand for a manifest that is stored: they move,
// with nothing to copy.
func (e *engine) sighted(r repository, man *oci.Content) {
	if r.Covered() && e.sightings.has(keyOf(r.Repo, man.Digest)) {
		e.submit(r, man, unseen)
	}
}

// alone reports whether a client that asked for the config of an image read no other
// image of the same index in the minutes around that: it has the layers already, as a
// docker, a kubelet or a buildkit that gets a cache later. One that reads the manifests
// of all images (ctr) shows by its layers which one it wants.
func (e *engine) alone(ctx context.Context, job ledger.Job, asked time.Time) bool {
	r, err := e.origins.Still(ctx, job.Repository, job.Source)
	index, ok := e.local.indexes.Get(job.Key())
	if err != nil || !ok {
		return false
	}
	parent := e.local.manifest(ctx, r, index)
	if parent == nil {
		parent = e.ledger.Find(keyOf(r, index), job.Source)
	}
	if parent == nil {
		return false
	}
	return !slices.ContainsFunc(parent.Parsed.Images(), func(d ocispec.Descriptor) bool {
		k := keyOf(r, d.Digest)
		sibling := e.ledger.Find(k, job.Source)
		if sibling == nil {
			sibling, _ = e.local.manifests.Get(k)
		}
		return d.Digest != job.Digest && sibling != nil && sibling.ReadAfter(asked.Add(-aroundConfig))
	})
}

// aroundConfig is how long before it asked for a config a client may have read other
// images of the index.
const aroundConfig = time.Minute
