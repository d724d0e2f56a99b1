package ledger

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// Key names a manifest in a local repository. A ledger has at most one copy job for
// each.
type Key struct {
	Repository string
	Digest     digest.Digest
}

// Job is the copy job of one manifest. It is plain data: records and Copiers carry it
// as JSON.
type Job struct {
	// What is to be copied.
	ID         string          `json:"id"`
	Repository string          `json:"repository"`
	Source     upstream.Source `json:"source"`
	Digest     digest.Digest   `json:"digest"`
	MediaType  string          `json:"mediaType"`
	Manifest   []byte          `json:"manifest"`
	// Tags move when the manifest is stored. There are mostTags at most, those that were
	// seen last; others move when they are pulled again.
	Tags []Tag `json:"tags,omitempty"`
	// Platforms selects the images that an index waits for, in the words of rule.Rule. If
	// nil, it waits for one of them, whichever is pulled.
	Platforms []string `json:"platforms,omitempty"`
	// Request is the pull that caused the copy, for its events. If nil, the events name
	// none.
	Request *webhook.Request `json:"request,omitempty"`
	// Depth is how many steps from referrer to subject lead to what was pulled.
	Depth int `json:"depth,omitempty"`
	// Incomplete says that the manifest was not stored when the job began: its own event
	// is due when it is.
	Incomplete bool `json:"incomplete,omitempty"`

	// When it is copied.
	Created time.Time `json:"created"`
	// OnDemand says that the copy waits until a client asks for a layer that only this
	// manifest still lacks: it is part of an index, and some clients fetch the manifests
	// of all platforms and the layers of one.
	OnDemand bool `json:"watch,omitempty"`
	// Attempts counts the failures that were the copy's own.
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"`   // when it is tried again; zero if nothing has failed
	Error    string    `json:"error,omitempty"` // why it failed last
	Parked   bool      `json:"parked,omitempty"`

	// Who copies it, where several caches share what is stored.

	// Here says that this ledger's Worker is to copy it.
	Here bool `json:"here,omitempty"`
	// Handed says that somebody else has it, or had it, as far as is known: that is asked
	// about before it is copied here.
	Handed bool `json:"handed,omitempty"`
	// Owed says that the job's own event is due although the manifest may be stored already:
	// the cache that stored it may have been lost before the event was sent.
	Owed bool `json:"owed,omitempty"`
}

// Key returns the key of the job.
func (j Job) Key() Key { return Key{j.Repository, j.Digest} }

// About reports whether the job copies what a tag or digest stands for.
func (j Job) About(reference string) bool {
	return j.Digest.String() == reference ||
		slices.ContainsFunc(j.Tags, func(t Tag) bool { return t.Name == reference })
}

// Content returns the manifest of the job. A job without one has an empty body, which
// does not match its digest.
func (j Job) Content() *oci.Content {
	body := j.Manifest
	if body == nil {
		body = []byte{}
	}
	return oci.NewContent(ocispec.Descriptor{MediaType: j.MediaType, Digest: j.Digest, Size: int64(len(body))}, body, "")
}

// Tag is a sighting: a tag that was seen to stand for the manifest of a job.
type Tag struct {
	Name string    `json:"tag"`
	Seen time.Time `json:"asked"` // when the upstream was asked
	// EventDue says that the tag's event must be sent: the tag is about to move, or has
	// moved and its event may not have been taken over.
	EventDue bool `json:"due,omitempty"`
}

// mostTags is how many tags one job moves.
const mostTags = 256

// mergeTags adds sightings. Of two sightings of one tag the later counts, and of too
// many the latest stay.
func mergeTags(old, add []Tag) []Tag {
	tags := slices.Clone(old)
	for _, a := range add {
		i := slices.IndexFunc(tags, func(t Tag) bool { return t.Name == a.Name })
		if i < 0 {
			tags = append(tags, a)
			continue
		}
		if a.Seen.After(tags[i].Seen) {
			tags[i].Seen = a.Seen
		}
		tags[i].EventDue = tags[i].EventDue || a.EventDue
	}
	if len(tags) > mostTags {
		slices.SortStableFunc(tags, func(a, b Tag) int { return a.Seen.Compare(b.Seen) })
		tags = slices.Clone(tags[len(tags)-mostTags:])
	}
	return tags
}

// merge adds to a job what a further request for the same copy brings, and reports
// whether that is worth a write. That a tag was seen once more is not: it is written
// before the tag moves.
func (j *Job) merge(more Job) (changed bool) {
	tags, platforms := len(j.Tags), j.Platforms
	changed = more.Here && !j.Here || more.Owed && !j.Owed
	j.Here, j.Owed = j.Here || more.Here, j.Owed || more.Owed
	j.Incomplete = j.Incomplete || more.Incomplete
	j.Tags = mergeTags(j.Tags, more.Tags)
	j.Depth = min(j.Depth, more.Depth)
	j.Platforms = oci.MergePlatforms(j.Platforms, more.Platforms)
	if j.Request == nil {
		j.Request = more.Request
	}
	return changed || len(j.Tags) != tags || !slices.Equal(j.Platforms, platforms)
}

// lost notes that the holder of the job is gone, with the events that it did not get to.
func (j *Job) lost() {
	j.Handed, j.Owed = false, true
	j.Tags = slices.Clone(j.Tags)
	for i := range j.Tags {
		j.Tags[i].EventDue = true
	}
}

// told notes that events are not owed: those of tags, and its own, which has the empty tag.
func (j *Job) told(tags map[string]bool) {
	if tags[""] {
		j.Owed, j.Incomplete = false, false
	}
	j.Tags = slices.Clone(j.Tags)
	for i, t := range j.Tags {
		j.Tags[i].EventDue = t.EventDue && !tags[t.Name]
	}
}

// keep notes that the job is done here; with lost, somebody else had it, who is gone.
func (j *Job) keep(lost bool) {
	if lost {
		j.lost()
	}
	j.Here, j.Handed = true, false
}

// asks reports whether a job asks for more than another one of the same manifest.
func (j Job) asks(than Job) bool {
	return !slices.Equal(j.Platforms, than.Platforms) || slices.ContainsFunc(j.Tags, func(t Tag) bool {
		return !slices.ContainsFunc(than.Tags, func(o Tag) bool { return o.Name == t.Name })
	})
}
