package cache

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/ociname"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/internal/route"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// Accept takes over a job of another cache with the same Store: it runs here, as if a pull
// here had asked for it, and this cache sends its events. When Accept returns, the job is
// written down. It returns the ID that the job has here: jobs of one manifest are one. It
// is for a [Teller].
//
// Nothing of the job is believed that can be checked: the repository must stand for
// exactly the job's source here, and its manifest have the digest. It is an error if the
// Copier of this cache is no Teller. [ErrDeleted] reports
// that the image was deleted since the job began, [ErrTooManyCopies] that there is no room
// for the job; a rule that has as many jobs as any other makes no room at the cost of
// others.
func (c *Cache) Accept(ctx context.Context, j Job) (id string, err error) {
	e := c.engine()
	if e.worker.teller == nil {
		return "", errNoTeller
	}
	job, err := j.imported()
	if err != nil {
		return "", err
	}
	if rest := len(j.Data) - base64.StdEncoding.EncodedLen(len(job.Manifest)); rest > acceptedRest {
		return "", fmt.Errorf("%w: it has %d bytes beside its manifest", errBadJob, rest)
	}
	if !route.ValidName(job.Repository) {
		return "", fmt.Errorf("%w: %.300q is no repository", errBadJob, job.Repository)
	}
	r, err := e.origins.Still(ctx, job.Repository, job.Source)
	if err != nil {
		return "", unusable(err)
	}
	man, err := accepted(r, &job, time.Now())
	if err != nil {
		return "", fmt.Errorf("%w: %w", errBadJob, err)
	}
	if e.local.deletedSince(r, job.Digest.String(), job.Created) {
		return "", ErrDeleted
	}
	job.Tags = slices.DeleteFunc(job.Tags, func(t ledger.Tag) bool { return e.local.deletedSince(r, t.Name, t.Seen) })
	e.local.note(r, man)
	facts := e.local.facts(ctx, r, man, nil)
	h, err := e.ledger.Add(ctx, nil, man, job, func(layers bool) ledger.Facts {
		f := facts(layers)
		f.Told = e.worker.told.since(ctx, job)
		return f
	})
	if err != nil {
		return "", err
	}
	h.Recorded(ctx)
	return h.ID(), context.Cause(ctx)
}

// errNoTeller reports a cache that takes no jobs of others.
var errNoTeller = errors.New("cache: without a Teller as its Copier, it takes no jobs of others")

// JobState tells another cache what became of a job that it gave to this one; see
// [Teller].
func (c *Cache) JobState(ctx context.Context, j Job) (JobStatus, error) {
	e := c.engine()
	job, err := j.imported()
	if err != nil {
		return JobStatus{}, err
	}
	if err := e.ledger.Ready(ctx); err != nil {
		return JobStatus{}, err
	}
	k := job.Key()
	if e.local.deletedSince(origin.Repo{Name: k.Repository}, k.Digest.String(), job.Created) {
		return JobStatus{State: JobDeleted}, nil
	}
	id, state, mine := e.ledger.Mine(k, j.Source) // before told, which it becomes
	switch {
	case (!mine || id != j.ID) && e.worker.told.has(ctx, k, j.ID):
		return JobStatus{State: e.worker.toldOrSending(ctx, job), ID: j.ID}, nil
	case !mine && e.worker.told.covers(ctx, job):
		return JobStatus{State: e.worker.toldOrSending(ctx, job)}, nil
	case !mine:
		return JobStatus{}, nil
	case state == ledger.Parked:
		return JobStatus{State: JobParked, ID: id}, nil
	}
	return JobStatus{State: JobComing, ID: id}, nil
}

// toldOrSending is the state of a job that was done here.
func (w *worker) toldOrSending(ctx context.Context, job ledger.Job) JobState {
	if ids := w.told.events(ctx, job); len(ids) > 0 && webhook.Waits(ctx, w.events, ids...) {
		return JobSending
	}
	return JobTold
}

// What a job of another cache may have at most. Depth grows by one with each referrer of
// a referrer.
const (
	acceptedText      = 128       // bytes of an ID, a media type or a platform
	acceptedRest      = 128 << 10 // bytes of all but the manifest, as JSON
	acceptedTags      = 256
	acceptedPlatforms = 64
	acceptedDepth     = 16
	acceptedSkew      = time.Minute // between two clocks
)

// accepted checks a job of another cache, makes it one of this cache, and returns its
// manifest.
func accepted(r origin.Repo, job *ledger.Job, now time.Time) (*oci.Content, error) {
	size := len(job.Manifest)
	switch {
	case job.ID == "" || len(job.ID) > acceptedText || !ociname.ValidWord(job.ID):
		return nil, fmt.Errorf("its ID is %.300q", job.ID)
	case job.Repository != r.Name:
		return nil, fmt.Errorf("%.300q is no canonical name", job.Repository)
	case size == 0 || size > upstream.MaxManifestSize:
		return nil, fmt.Errorf("its manifest has %d bytes", size)
	case !ociname.ValidDigest(job.Digest.String()) || job.Digest.Algorithm().FromBytes(job.Manifest) != job.Digest:
		return nil, fmt.Errorf("its manifest is not %.100q", job.Digest)
	case job.Depth < 0 || job.Depth > acceptedDepth || len(job.Tags) > acceptedTags || len(job.Platforms) > acceptedPlatforms:
		return nil, fmt.Errorf("depth %d, %d tags, %d platforms", job.Depth, len(job.Tags), len(job.Platforms))
	}
	if t, _, err := mime.ParseMediaType(job.MediaType); err != nil || t != job.MediaType || len(t) > acceptedText || oci.IsSchema1(t) {
		return nil, fmt.Errorf("its media type is %.300q", job.MediaType)
	}
	for _, t := range job.Tags {
		if !ociname.ValidTag(t.Name) || t.Seen.IsZero() || t.Seen.After(now.Add(acceptedSkew)) {
			return nil, fmt.Errorf("the tag %.200q was seen at %v", t.Name, t.Seen)
		}
	}
	if i := slices.IndexFunc(job.Platforms, func(p string) bool { return len(p) > acceptedText }); i >= 0 {
		return nil, fmt.Errorf("the platform %.300q", job.Platforms[i])
	}
	man := job.Content().At(r.From)
	if man.Parsed.Bad != nil {
		return nil, man.Parsed.Bad
	}
	created := job.Created
	if created.IsZero() || created.After(now) {
		created = now
	}
	*job = ledger.Job{
		ID: job.ID, Repository: job.Repository, Source: job.Source, Digest: job.Digest, Tags: job.Tags, Platforms: job.Platforms, Request: job.Request,
		Depth: job.Depth, Owed: job.Owed, Incomplete: job.Owed && job.Incomplete, Created: created.UTC(), Here: true,
	}
	return man, nil
}
