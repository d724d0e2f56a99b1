package cache

import (
	"context"
	"errors"

	"github.com/pullthrough/pullthrough/internal/ledger"
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
type Job = ledger.Job

// TagSighting is a tag seen to stand for a manifest.
type TagSighting = ledger.Tag

// Copy does a job: it fetches what the manifest names, links it, moves its
// tags, and sends its events, in this order, so that a tag never stands for
// something that cannot be served whole. Doing a job again does no harm. It is
// for a [Copier]; an error means that the job should be done again later.
func (c *Cache) Copy(ctx context.Context, job Job) error {
	e := c.engine()
	run := e.ledger.Elsewhere(job)
	err := e.worker.DoHere(ctx, run)
	if e.cfg.Copier != nil {
		run.End(err)
	}
	if errors.Is(err, ledger.ErrWaiting) {
		return nil // it goes on when an image is stored
	}
	return err
}
