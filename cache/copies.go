package cache

import (
	"context"
	"fmt"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/origin"
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

// copyState is what is known of a copy job without looking at blobs.
func copyState(c ledger.Copy) CopyState {
	return CopyState{Job: c.Job, State: string(c.State), Err: c.Err}
}

// Copies returns the copies that are not finished, the oldest first.
func (c *Cache) Copies() []CopyState {
	e := c.engine()
	copies := e.ledger.Copies("")
	states := make([]CopyState, len(copies))
	for i, c := range copies {
		states[i] = copyState(c)
		for _, d := range c.Blobs {
			states[i].Total += d.Size
			states[i].Done += e.fetcher.here(e.ctx, origin.Repo{Name: c.Job.Repository}, c.Job.Source, d)
		}
	}
	return states
}

// Retry tries the copies of a tag or digest again that are parked or paused, or
// with an empty reference all of the repository, or with an empty repository
// all. Their failures are forgotten. It returns how many there are, and does not
// wait for them.
func (c *Cache) Retry(ctx context.Context, repository, reference string) (int, error) {
	e := c.engine()
	r := origin.Repo{}
	if repository != "" {
		var err error
		if r, err = e.origins.Find(ctx, repository); err != nil {
			return 0, failure(r, kindManifest, reference, err)
		}
	}
	n, err := e.ledger.Retry(ctx, func(job Job) bool {
		return (repository == "" || job.Repository == r.Name) && (reference == "" || job.About(reference))
	})
	if err == error(errShutdown) {
		err = failure(r, kindManifest, reference, err)
	}
	return n, err
}
