package cache

import (
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// Copier decides where copies run.
type Copier interface {
	// Submit takes a job over: sooner or later somebody must call [Cache.Copy]
	// with it, here or in another process with the same Store. An error, whatever
	// it is, means that the job was not taken: the cache submits it again later,
	// and does not count that against the copy; so it does with a job whose
	// manifest is not in the Store ten minutes after. Jobs are deduplicated before they come
	// here, and an index comes when the images that it waits for are complete;
	// Submit must be safe for concurrent use. Events are sent by the cache that
	// submits, when it finds a job done, and by the one that runs it, if they have
	// Events, with the same IDs; for at least once it takes the former.
	//
	// A process that only runs jobs needs a Store without [store.Records]: it would
	// take the jobs up by itself.
	Submit(ctx context.Context, job Job) error
}

// Job is the copy of one manifest. It is plain data.
type Job struct {
	ID         string          `json:"id"`
	Repository string          `json:"repository"`
	Source     upstream.Source `json:"source"`
	Digest     digest.Digest   `json:"digest"`
	MediaType  string          `json:"mediaType"`
	Manifest   []byte          `json:"manifest"`
	// Tags move when the manifest is complete. There are 256 at most, the ones that
	// were seen last; others move when they are pulled again.
	Tags []TagSighting `json:"tags,omitempty"`
	// Platforms are the images that an index waits for, in the words of
	// [rule.Rule]; nil: for one of them, whichever is pulled.
	Platforms []string `json:"platforms,omitempty"`
	// Watch says that the copy waits until a client asks for a layer that only
	// this manifest still lacks: it is part of an index, and some clients fetch
	// the manifests of all platforms and the layers of one.
	Watch bool `json:"watch,omitempty"`
	// Request is the pull that caused the copy, for its events; nil: nothing is told
	// of it.
	Request *webhook.Request `json:"request,omitempty"`
	// Depth is how many steps from referrer to subject lead to what was pulled. What
	// refers to a manifest of depth 3 is not copied: a chain of them has no end if its
	// upstream makes it up.
	Depth int `json:"depth,omitempty"`
	// Incomplete says that the manifest was not complete when the job began, so
	// that its own event is due when it is.
	Incomplete bool      `json:"incomplete,omitempty"`
	Created    time.Time `json:"created"`
	// Attempts counts the failures that were the copy's own. What is the matter
	// with its upstream's host, its credential or a full store does not count.
	Attempts int `json:"attempts,omitempty"`
	// Next is when it is tried again; zero: nothing has failed.
	Next time.Time `json:"next,omitzero"`
	// Error is why it failed last.
	Error string `json:"error,omitempty"`
	// Parked says that it failed too often: it is tried again when somebody pulls
	// what it copies, or by [Cache.Retry].
	Parked bool `json:"parked,omitempty"`
}

// TagSighting is a tag seen to stand for a manifest.
type TagSighting struct {
	Tag   string    `json:"tag"`
	Asked time.Time `json:"asked"` // when the upstream was asked
	// Due says that the tag's event is to be sent: the tag is about to move, or
	// has moved and the event may not have been taken over.
	Due bool `json:"due,omitempty"`
}

// mostTags is how many tags one job moves.
const mostTags = 256

// mergeTags adds sightings; of one tag the latest counts, and of too many the latest
// stay.
func mergeTags(old, add []TagSighting) []TagSighting {
	tags := slices.Clone(old)
	for _, a := range add {
		i := slices.IndexFunc(tags, func(t TagSighting) bool { return t.Tag == a.Tag })
		switch {
		case i < 0:
			tags = append(tags, a)
			continue
		case a.Asked.After(tags[i].Asked):
			tags[i].Asked = a.Asked
		}
		tags[i].Due = tags[i].Due || a.Due
	}
	if len(tags) > mostTags {
		slices.SortStableFunc(tags, func(a, b TagSighting) int { return a.Asked.Compare(b.Asked) })
		tags = slices.Clone(tags[len(tags)-mostTags:])
	}
	return tags
}

// jobState is where a job is.
type jobState string

const (
	jobQueued    jobState = "queued"
	jobRunning   jobState = "running"
	jobSubmitted jobState = "submitted" // a Copier has it
	jobWaiting   jobState = "waiting"   // an index, for a child
	jobWatching  jobState = "watching"  // a child, for a layer to be asked for
	jobPaused    jobState = "paused"    // it failed and is tried again
	jobParked    jobState = "parked"    // it failed too often
)

// jobEntry is a job and what becomes of it. jobs.mu guards it.
type jobEntry struct {
	job      Job
	parsed   *oci.Manifest
	man      *manifest
	state    jobState
	unasked  map[digest.Digest]bool
	serial   uint64        // when it was queued
	config   bool          // a client asked for the config while it was watched
	failures int           // in a row, whosesoever they are
	given    time.Time     // when the Copier took it
	last     error         // of the last failure
	done     chan struct{} // closed when it is removed or has failed once
	timer    *time.Timer
}

func (t *jobEntry) key() content { return content{t.job.Repository, t.job.Digest} }

// live reports whether something still becomes of the job by itself.
func (t *jobEntry) live() bool { return t.state != jobParked && t.state != jobWatching }
