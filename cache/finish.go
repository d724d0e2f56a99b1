package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// finish links a manifest whose content is stored, moves its tags and sends its events.
func (w *worker) finish(ctx context.Context, r origin.Repo, run *ledger.Run, man *oci.Content, stored bool) error {
	job := run.Job
	if w.local.deletedSince(r, job.Digest.String(), job.Created) {
		return errDeleted
	}
	if err := r.Still(ctx); err != nil {
		return unusable(err)
	}
	tags := w.pledge(ctx, r, run)
	if !stored {
		if err := w.local.link(ctx, r, man, job.Created, run.Replaced); err != nil {
			return err
		}
	}
	run.Completed()
	var events []webhook.Event
	for len(tags) > 0 {
		for _, t := range tags {
			run.Moved(t.Tag)
			due, err := w.move(ctx, r, job, man, t)
			if err != nil {
				return err
			}
			if due {
				events = append(events, pushEvent(job, man, t.Name))
			}
		}
		tags = w.pledge(ctx, r, run)
	}
	if job.Incomplete {
		events = append(events, pushEvent(job, man, ""))
	}
	return w.send(ctx, events)
}

// pledgedTag is a tag that is about to move.
type pledgedTag struct {
	ledger.Tag
	mayHaveMoved bool // by a former try, whose event was not sent
}

// pledge takes the tags that are still to move and writes down which events the job owes
// before anything shows that it does, so that neither a crash nor a loss of power
// between a tag and its event loses the event.
func (w *worker) pledge(ctx context.Context, r origin.Repo, run *ledger.Run) []pledgedTag {
	owes := run.Job.Incomplete && !run.HasMoved()
	var pledged []pledgedTag
	var tags []ledger.Tag
	for _, t := range run.TagsLeft() {
		if w.local.deletedSince(r, t.Name, t.Seen) {
			run.Moved(t) // it does not move any more
			continue
		}
		p := pledgedTag{Tag: t, mayHaveMoved: t.EventDue}
		p.EventDue = p.EventDue || w.moves(ctx, r, run.Job, t)
		owes = owes || p.EventDue
		pledged, tags = append(pledged, p), append(tags, p.Tag)
	}
	if w.events != nil && owes {
		run.Owe(ctx, tags)
	}
	return pledged
}

// moves reports whether a tag does not stand for the job's manifest yet, or does by this
// very sighting.
func (w *worker) moves(ctx context.Context, r origin.Repo, job ledger.Job, t ledger.Tag) bool {
	seen, stands := w.local.stands(ctx, r, t.Name, job.Digest)
	return !stands || seen.Equal(t.Seen)
}

// move makes a tag stand for a stored manifest, unless it stands for a later answer, and
// reports whether its event is due.
func (w *worker) move(ctx context.Context, r origin.Repo, job ledger.Job, man *oci.Content, t pledgedTag) (due bool, err error) {
	if !t.EventDue {
		w.local.tagMoved(r, t.Name, t.Seen)
		return false, nil // another copy of the same was faster
	}
	if _, stands := w.local.stands(ctx, r, t.Name, job.Digest); !stands {
		former := w.local.tag(ctx, r, t.Name).man
		if err := w.admission.admit(ctx, r, t.Name, man, former); err != nil {
			w.log.Info("a tag does not move: not admitted", "repository", r.Name, "tag", t.Name, "digest", job.Digest.String(), "err", err)
			return false, nil
		}
	}
	switch err := w.local.moveTag(ctx, r, man, t.Tag, job.Created); {
	case errors.Is(err, store.ErrStale):
		return t.mayHaveMoved, nil // it may have moved before, and on since then
	case errors.Is(err, errDeleted):
		return false, nil
	default:
		return err == nil, err
	}
}

// pushEvent is an event of a job. Its ID is derived from the job, so that it is the same
// when the job is done again after a crash.
func pushEvent(job ledger.Job, man *oci.Content, tag string) webhook.Event {
	h := sha256.Sum256([]byte(job.ID + "\x00" + job.Repository + "\x00" + job.Digest.String() + "\x00" + tag))
	return webhook.Event{
		ID:        fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16]),
		Timestamp: time.Now().UTC(), Action: webhook.ActionPush,
		Target: webhook.Target{
			MediaType: man.MediaType, Size: man.Size, Length: man.Size,
			Digest: job.Digest.String(), Repository: job.Repository, Tag: tag,
		},
		Request: job.Request,
	}
}

// send sends what a job owes, all at once.
func (w *worker) send(ctx context.Context, events []webhook.Event) error {
	if w.events == nil || len(events) == 0 {
		return nil
	}
	if err := webhook.SendAll(ctx, w.events, events); err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	return nil
}
