package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/upstream"
)

// Copier decides where copy jobs run.
type Copier interface {
	// Submit takes a job over: sooner or later [Cache.Copy] must be called with it, here or
	// in another process with the same Store. An error, whatever it is, means
	// that the job was not taken: the cache submits it again later, and does not count
	// that against the copy; so it does with a job whose manifest is not in the Store ten
	// minutes after. Jobs are deduplicated before they come here, and the job of an index
	// comes when the images that it waits for are stored. Submit must be safe for
	// concurrent use.
	//
	// The submitting cache and the one that runs the job both send its events, with equal
	// IDs, if they have Events. Only the submitting cache guarantees that each event is
	// delivered at least once, so it must have Events.
	//
	// A process that only runs jobs needs a Store without [store.Records]: it would take
	// the jobs up by itself.
	Submit(ctx context.Context, job Job) error
}

// Job is the copy job of one manifest, as a [Copier] passes it on. It is plain data: all
// its fields must reach [Cache.Copy] as they are.
type Job struct {
	ID         string          `json:"id"`
	Repository string          `json:"repository"` // canonical local name
	Source     upstream.Source `json:"source"`
	Digest     digest.Digest   `json:"digest"`
	// Data is the rest of the job, with its manifest. It is for Cache.Copy alone.
	Data []byte `json:"data"`
}

// exported returns a job for a Copier.
func exported(job ledger.Job) (Job, error) {
	data, err := json.Marshal(job)
	return Job{ID: job.ID, Repository: job.Repository, Source: job.Source, Digest: job.Digest, Data: data}, err
}

// imported returns the job that exported was given.
func (j Job) imported() (ledger.Job, error) {
	var job ledger.Job
	if err := json.Unmarshal(j.Data, &job); err != nil {
		return job, fmt.Errorf("%w: its data cannot be read: %w", errBadJob, err)
	}
	if job.ID != j.ID || job.Repository != j.Repository || job.Source != j.Source || job.Digest != j.Digest {
		return job, fmt.Errorf("%w: its data is that of another job", errBadJob)
	}
	return job, nil
}

// Copy does a job: it fetches what the manifest names, links the manifest, moves its
// tags, and sends its events, in this order, so that a tag never stands for something
// that cannot be served whole. Doing a job again does no harm. It is for a [Copier]; an
// error means that the job should be done again later.
func (c *Cache) Copy(ctx context.Context, j Job) error {
	e := c.engine()
	job, err := j.imported()
	if err != nil {
		return err
	}
	run := e.ledger.Elsewhere(job)
	err = e.worker.DoHere(ctx, run)
	if e.cfg.Copier != nil {
		run.End(err)
	}
	if errors.Is(err, ledger.ErrWaiting) {
		return nil // it goes on when an image is stored
	}
	return err
}
