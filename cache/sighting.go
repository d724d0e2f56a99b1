package cache

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/lru"
)

// sightingTime is how long a sighting counts.
const sightingTime = 10 * time.Minute

// sighting is a tag seen to stand for a digest, before that digest is complete
// here. containerd and docker ask for the tag by HEAD and for the content by
// digest; sightings are what ties the two together.
type sighting struct {
	tag    string
	digest digest.Digest
	source string
	asked  time.Time
}

// sightings are in memory and bounded, and indexed by digest so that a warm
// pull costs one look.
type sightings struct {
	newest  *lru.Cache[tagKey, sighting]
	digests *lru.Cache[content, []string] // tags that may stand for it
}

func (s *sightings) init(n int64) {
	s.newest = lru.New[tagKey, sighting](n)
	s.digests = lru.New[content, []string](n)
}

// add records a sighting, unless a later one of the tag is known.
func (s *sightings) add(p place, tag string, d digest.Digest, asked time.Time) {
	newer := true
	s.newest.Update(tagKey{p.repo, tag}, func(old sighting, ok bool) (sighting, int64, bool) {
		if ok && old.asked.After(asked) {
			newer = false
			return old, 1, true
		}
		return sighting{tag, d, p.source, asked}, 1, true
	})
	if !newer {
		return
	}
	s.digests.Update(content{p.repo, d}, func(tags []string, _ bool) ([]string, int64, bool) {
		for _, t := range tags {
			if t == tag {
				return tags, 1, true
			}
		}
		return append(tags[:len(tags):len(tags)], tag), int64(len(tags) + 1), true
	})
}

// stands reports whether a tag was seen to stand for a manifest that was not copied
// yet.
func (s *sightings) stands(k content) bool {
	_, ok := s.digests.Get(k)
	return ok
}

// take returns the tags whose newest sighting is d, and forgets that they may
// stand for it: the caller sees to them.
func (s *sightings) take(p place, d digest.Digest) []TagSighting {
	k := content{p.repo, d}
	if !s.stands(k) {
		return nil
	}
	var tags []string
	s.digests.Update(k, func(old []string, _ bool) ([]string, int64, bool) {
		tags = old
		return nil, 0, false
	})
	var found []TagSighting
	for _, tag := range tags {
		n, ok := s.newest.Get(tagKey{p.repo, tag})
		if ok && n.digest == d && n.source == p.source && time.Since(n.asked) < sightingTime {
			found = append(found, TagSighting{Tag: tag, Asked: n.asked})
		}
	}
	return found
}
