package cache

import (
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/flight"
)

// CopyState is a copy that is not finished. Its Next says when a paused one is
// tried again.
type CopyState struct {
	Job
	// State is queued, running, submitted (a Copier has it), waiting (an index,
	// for a platform), watching (a platform, for a layer to be asked for), paused
	// (it failed and is tried again) or parked (it failed too often, see
	// [Cache.Retry]).
	State string
	// Done and Total are bytes of blobs, of an index those of its platforms that
	// are being copied.
	Done, Total int64
	// Err is why it failed last; nil: it did not, or a former process saw it and
	// only Job.Error tells.
	Err error
}

// String tells what is copied and how far it is, without the manifest.
func (s CopyState) String() string {
	text := fmt.Sprintf("%s@%s: %s, %d of %d bytes", s.Repository, s.Digest, s.State, s.Done, s.Total)
	if s.Error != "" {
		text += "; " + s.Error
	}
	return text
}

// copyState is what is known of a job without looking at blobs. jobs.mu is held.
func (t *jobEntry) copyState() CopyState {
	return CopyState{Job: t.job, State: string(t.state), Err: t.last}
}

// Copies returns the copies that are not finished, the oldest first.
func (c *Cache) Copies() []CopyState {
	e := c.engine()
	e.jobs.lock()
	states := make([]CopyState, 0, len(e.jobs.entries))
	blobs := make([][]ocispec.Descriptor, 0, len(e.jobs.entries))
	for _, t := range e.jobs.entries {
		states = append(states, t.copyState())
		blobs = append(blobs, e.jobs.blobs(t))
	}
	e.jobs.unlock()
	for i := range states {
		p := place{repo: states[i].Repository}
		for _, d := range blobs[i] {
			states[i].Total += d.Size
			states[i].Done += e.flying(states[i].Job, p, d)
		}
	}
	slices.SortFunc(states, func(a, b CopyState) int {
		if n := a.Created.Compare(b.Created); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return states
}

// blobs are those that a job still needs; of an index, those of its children that
// are known. j.mu is held.
func (j *jobs) blobs(t *jobEntry) []ocispec.Descriptor {
	if !t.parsed.Index {
		return t.parsed.Blobs()
	}
	var all []ocispec.Descriptor
	for _, d := range t.parsed.Children() {
		if child := j.entries[content{t.job.Repository, d.Digest}]; child != nil && child.live() {
			all = append(all, child.parsed.Blobs()...)
		}
	}
	return all
}

// flying counts the bytes of a job's blob that are here.
func (e *engine) flying(job Job, p place, d ocispec.Descriptor) int64 {
	if front, _, ok := e.flights.Peek(flight.Key{Source: job.Source, Digest: d.Digest}); ok {
		return front
	}
	if e.linked(e.ctx, p, d.Digest) {
		return d.Size
	}
	return 0
}

// present counts the bytes of a blob that are here.
func (e *engine) present(p place, d ocispec.Descriptor) int64 {
	return e.flying(Job{Source: p.match.Source}, p, d)
}
