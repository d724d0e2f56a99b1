package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/upstream"
)

// CopyStatus says where a copy job is.
type CopyStatus string

// The states of a copy job.
const (
	CopyQueued    CopyStatus = "queued"    // it waits for a slot
	CopyRunning   CopyStatus = "running"   // it copies
	CopySubmitted CopyStatus = "submitted" // the Copier has taken it, or it is done and its events wait elsewhere; see Teller
	CopyWaiting   CopyStatus = "waiting"   // an index waits for one of its platforms to be stored
	CopyWatching  CopyStatus = "watching"  // a platform waits for a client to ask for one of its layers
	CopyPaused    CopyStatus = "paused"    // it failed and is tried again
	CopyParked    CopyStatus = "parked"    // it failed too often: it is tried when it is pulled, or by Cache.Retry
)

// CopyState is a copy job that is not finished, as it is at one moment.
type CopyState struct {
	ID         string // of the job
	Repository string // canonical local name
	Digest     digest.Digest
	Tags       []string // that move when the manifest is stored
	Source     upstream.Source
	State      CopyStatus
	// Elsewhere is what was last heard of a job that is CopySubmitted to a [Teller]:
	// JobComing, JobParked or JobSending. It is empty of others.
	Elsewhere JobState
	// Done and Total are bytes of blobs; of an index, those of its platforms that are
	// being copied.
	Done, Total int64
	Created     time.Time
	// Attempts counts the failures that were the copy's own; see [Limits.Attempts].
	Attempts int
	// Next is when a paused job is tried again. It is zero if nothing has failed.
	Next time.Time
	// Err is why the copy failed last, or nil. Of a failure in a former process only the
	// text is left.
	Err error
}

// String tells what is copied and how far it is.
func (s CopyState) String() string {
	text := fmt.Sprintf("%s@%s: %s, %d of %d bytes", s.Repository, s.Digest, s.State, s.Done, s.Total)
	if s.Err != nil {
		text += "; " + s.Err.Error()
	}
	return text
}

// elsewhere says what another cache said of a job. It never changes.
var elsewhere = map[ledger.Fate]JobState{ledger.Pending: JobComing, ledger.Stuck: JobParked, ledger.Sending: JobSending}

// copyState is what is known of a copy job without looking at blobs.
func copyState(c ledger.Copy) CopyState {
	s := CopyState{
		ID: c.Job.ID, Repository: c.Job.Repository, Digest: c.Job.Digest, Source: c.Job.Source, State: CopyStatus(c.State),
		Created: c.Job.Created, Attempts: c.Job.Attempts, Next: c.Job.Next, Err: c.Err,
	}
	if c.State == ledger.Submitted && c.Job.Handed {
		s.Elsewhere = elsewhere[c.Fate]
	}
	for _, t := range c.Job.Tags {
		s.Tags = append(s.Tags, t.Name)
	}
	if s.Err == nil && c.Job.Error != "" {
		s.Err = errors.New(c.Job.Error)
	}
	return s
}

// Copies returns the copy jobs that are not finished, the oldest first.
func (c *Cache) Copies() []CopyState {
	e := c.engine()
	copies := e.ledger.Copies("")
	states := make([]CopyState, len(copies))
	for i, c := range copies {
		states[i] = e.copyState(c)
	}
	return states
}

// copyState is a copy job with how far it is.
func (e *engine) copyState(c ledger.Copy) CopyState {
	s := copyState(c)
	for _, d := range c.Blobs {
		s.Total += d.Size
		s.Done += e.fetcher.here(e.ctx, origin.Repo{Name: c.Job.Repository}, c.Job.Source, d)
	}
	return s
}

// Idle waits until no copy job is queued, runs, or is with the Copier, or until ctx
// ends, whose cause it returns then. Jobs that wait for a client, an upstream,
// [Cache.Retry], or nothing but the delivery of their events elsewhere do not count; see [CopyStatus]. It is for tests and for tools that pull
// and end.
func (c *Cache) Idle(ctx context.Context) error { return c.engine().ledger.Idle(ctx) }

// Retry tries the paused and parked copy jobs of a tag or digest again; with an empty
// reference, all of the repository; with an empty repository, all. Their failures are
// forgotten. It returns how many there are, and does not wait for them.
func (c *Cache) Retry(ctx context.Context, repository, reference string) (int, error) {
	e := c.engine()
	r := origin.Repo{}
	if repository != "" {
		var err error
		if r, err = e.origins.Find(ctx, repository); err != nil {
			return 0, failure(r, AccessManifest, reference, err)
		}
	}
	n, err := e.ledger.Retry(ctx, func(job ledger.Job) bool {
		return (repository == "" || job.Repository == r.Name) && (reference == "" || job.About(reference))
	})
	if err == error(errShutdown) {
		err = failure(r, AccessManifest, reference, err)
	}
	return n, err
}
