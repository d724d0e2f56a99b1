package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// finish links a manifest whose content is stored, moves its tags and sends its events.
// If the store is a [store.Batcher] and the events are kept in it, all that is one
// change, together with the end of the job's record: a tag has moved exactly if its
// event is kept.
func (w *worker) finish(ctx context.Context, r origin.Repo, run *ledger.Run, man *oci.Content, stored bool) error {
	if w.local.deletedSince(r, run.Job.Digest.String(), run.Job.Created) {
		return ErrDeleted
	}
	if err := r.Still(ctx); err != nil {
		return unusable(err)
	}
	e, err := w.ending(ctx, r, run, man, stored)
	if err != nil {
		return err
	}
	for tags := e.tagsLeft(); len(tags) > 0 || !e.begun; tags = e.tagsLeft() {
		if e.later && len(tags) > 1 {
			tags = tags[:1] // the job's record says of which tags an event is owed
		}
		if err := e.step(ctx, e.moves(ctx, tags)); err != nil {
			return err
		}
		e.begun = true
	}
	if e.later && e.ownEvent {
		e.unsent = append(e.unsent, pushEvent(run.Job, man, ""))
	}
	if err := w.send(ctx, e.unsent); err != nil {
		return err
	}
	for _, ev := range e.unsent {
		run.Sent = append(run.Sent, ev.Target.Tag)
	}
	return nil
}

// ending is the end of a copy while it is made. It is used by one goroutine.
type ending struct {
	*worker
	r      origin.Repo
	run    *ledger.Run
	man    *oci.Content
	stored bool // the manifest is linked
	begun  bool // the first step was made

	ownEvent bool // the job's own event is due; known from the first step on

	enlister webhook.Enlister // takes events over along with the changes; nil if none does
	later    bool             // events are sent after the changes
	unsent   []webhook.Event
}

func (w *worker) ending(ctx context.Context, r origin.Repo, run *ledger.Run, man *oci.Content, stored bool) (*ending, error) {
	e := &ending{worker: w, r: r, run: run, man: man, stored: stored, later: w.events != nil}
	if k, ok := w.events.(webhook.Enlister); ok && w.local.records != nil {
		nothing, err := k.Enlist(ctx, w.local.records, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNotSent, err)
		}
		if nothing != nil {
			nothing.Done(nil)
			e.enlister, e.later = k, false
		}
	}
	return e, nil
}

// tagsLeft returns the tags that are still to move.
func (e *ending) tagsLeft() (left []ledger.Tag) {
	for _, t := range e.run.TagsLeft() {
		if e.local.deletedSince(e.r, t.Name, t.Seen) {
			e.run.Moved(t) // it does not move any more
			continue
		}
		left = append(left, t)
	}
	return left
}

// moves returns those of the tags that are to move now. The event of one that stands for
// the manifest already is unsent if a former try of the job owes it.
func (e *ending) moves(ctx context.Context, tags []ledger.Tag) (moves []ledger.Tag) {
	for _, t := range tags {
		seen, stands := e.local.stands(ctx, e.r, t.Name, e.run.Job.Digest)
		if stands {
			e.stays(t, t.EventDue || !e.run.HasRecord() && seen.Equal(t.Seen))
			continue
		}
		former := func() *oci.Content { return e.local.tag(ctx, e.r, t.Name).man }
		if err := e.admission.admit(ctx, e.r, t.Name, e.man, former); err != nil {
			e.log.Info("a tag does not move: not admitted", "repository", e.r.Name, "tag", t.Name, "digest", e.run.Job.Digest.String(), "err", err)
			e.stays(t, false)
			continue
		}
		moves = append(moves, t)
	}
	return moves
}

// stays notes that a tag need not move, and whether its event is to be sent later.
func (e *ending) stays(t ledger.Tag, unsent bool) {
	e.local.tagMoved(e.r, t.Name, t.Seen)
	e.moved(t, unsent)
}

// moved notes that a tag has moved, or need not, and whether its event is to be sent
// later.
func (e *ending) moved(t ledger.Tag, unsent bool) {
	e.run.Moved(t)
	if unsent {
		e.unsent = append(e.unsent, pushEvent(e.run.Job, e.man, t.Name))
	}
}

// step links the manifest, unless it is linked, and moves tags, as one change.
func (e *ending) step(ctx context.Context, tags []ledger.Tag) error {
	written, err := e.local.deleted.write(e.r.Name, e.run.Job.Created)
	if err != nil {
		return err
	}
	defer written()
	held := e.run.Hold(ctx)
	if held != nil {
		defer held.Release()
	}
	if !e.begun {
		if err := e.begin(ctx, held); err != nil {
			return err
		}
	}
	c := &change{ending: e, held: held}
	former := e.local.formerTags(e.r, tags)
	reached, err := tried{}, c.prepare(ctx, tags)
	if err == nil {
		reached, err = e.local.apply(ctx, &c.batch, e.enlister != nil)
	}
	if err != nil {
		c.owe(ctx, tags, reached)
	}
	if c.done(err); err != nil {
		return err
	}
	linked := !e.stored
	if e.stored = true; linked {
		e.local.linked(ctx, e.r, e.man)
	}
	if !e.begun {
		e.run.Completed()
	}
	for i, t := range tags {
		stayed := c.batch.Tags[i].Err != nil
		if stayed {
			e.local.tagMoved(e.r, t.Name, t.Seen)
		} else {
			e.local.tagStands(e.r, t, former[i], e.man)
		}
		// One that moved before may have moved on since then.
		e.moved(t, e.later && !stayed || stayed && t.EventDue)
		if e.later && !stayed {
			e.run.Owes(t)
		}
	}
	return e.takeBack(ctx, tags, linked)
}

// begin finds out whether the job's own event is due. In a store that several caches
// share, another one may have linked the manifest since this one looked; then the event
// is that one's, unless it is owed. So that is written down before the manifest is linked.
func (e *ending) begin(ctx context.Context, held *ledger.Held) error {
	e.ownEvent = e.run.Job.Incomplete
	if e.teller == nil || !e.ownEvent || e.run.Job.Owed {
		return nil
	}
	if e.stored = e.stored || e.local.manifest(ctx, e.r, e.man.Digest) != nil; e.stored {
		e.ownEvent = false
		return nil
	}
	if held != nil {
		owing, err := held.OwingAll()
		if err == nil {
			err = e.local.changeRecords(ctx, []store.RecordChange{store.RecordChange(owing)})
		}
		if err != nil {
			return err
		}
	}
	e.run.OwesAll()
	return nil
}

// takeBack deletes again what was deleted while it was linked or moved.
func (e *ending) takeBack(ctx context.Context, tags []ledger.Tag, linked bool) error {
	gone := e.local.deletedSince(e.r, e.run.Job.Digest.String(), e.run.Job.Created)
	for _, t := range tags {
		if !gone && !e.local.deletedSince(e.r, t.Name, t.Seen) {
			continue
		}
		if err := e.local.takeBackTag(ctx, e.r, t); err != nil {
			return err
		}
	}
	if !gone {
		return nil
	}
	if s, ok := store.As[store.Deleter](e.local.store); ok && linked && !e.run.Replaced() {
		if err := e.local.deleteManifest(ctx, s, e.r, e.man.Digest); err != nil {
			return err
		}
	}
	return ErrDeleted
}

// change is one change at the end of a copy, with the events that it keeps.
type change struct {
	*ending
	held     *ledger.Held // nil if the job has no record
	batch    store.Batch
	enlisted []*webhook.Enlistment
	tags     int // the first of enlisted are those of the tags, in order
}

// prepare fills the batch.
func (c *change) prepare(ctx context.Context, tags []ledger.Tag) error {
	if !c.stored {
		c.batch.Content = []store.Piece{{Repo: c.r.Name, Info: linkInfo(c.r, c.man), Bytes: c.man.Body}}
	}
	for _, t := range tags {
		records, err := c.owed(ctx, t)
		if err != nil {
			return err
		}
		c.batch.Tags = append(c.batch.Tags, store.TagChange{
			Repo: c.r.Name, Tag: t.Name, Records: records,
			Value: store.Tag{Descriptor: c.man.Descriptor, Source: c.r.From, Asked: t.Seen},
		})
	}
	c.tags = len(c.enlisted)
	if c.ownEvent && !c.begun && c.enlister != nil {
		records, err := c.enlist(ctx, "")
		if err != nil {
			return err
		}
		c.batch.Records = records
	}
	owing := slices.ContainsFunc(tags, func(t ledger.Tag) bool { return t.EventDue })
	if c.held != nil && !c.later && !owing && len(c.unsent) == 0 {
		c.batch.Records = append(c.batch.Records, store.RecordChange(c.held.Deletion()))
	}
	return nil
}

// owed returns the records that are written when a tag moves: those that keep its event,
// or that of the job, which says then that its event is due.
func (c *change) owed(ctx context.Context, t ledger.Tag) ([]store.RecordChange, error) {
	switch {
	case c.enlister != nil:
		return c.enlist(ctx, t.Name)
	case c.later && c.held != nil:
		owing, err := c.held.Owing(t)
		return []store.RecordChange{store.RecordChange(owing)}, err
	}
	return nil, nil
}

// owe notes the events of tags that have moved, or may have, in a change that failed. The
// next try sends them, even if a tag has moved on or was seen again by then.
func (c *change) owe(ctx context.Context, tags []ledger.Tag, reached tried) {
	var kept []store.RecordChange
	for i, t := range c.batch.Tags[:reached.tags] {
		if t.Err == nil || errors.Is(t.Err, errDoubt) {
			c.run.Owes(tags[i])
			kept = append(kept, t.Records...)
		}
	}
	if reached.records {
		kept = append(kept, c.batch.Records...)
	}
	c.owedByJob(ctx, kept)
}

// owedByJob withdraws the events that a change kept before it failed. If they stayed, the
// next process would send them, although the job sends them too, and although a tag may not
// have moved. The job's record owes them before that, so that none is lost.
func (c *change) owedByJob(ctx context.Context, kept []store.RecordChange) {
	if c.enlister == nil || c.held == nil || len(kept) == 0 {
		return
	}
	owing, ok := c.held.Now()
	if !ok {
		return
	}
	if err := c.local.changeRecords(context.WithoutCancel(ctx), []store.RecordChange{store.RecordChange(owing)}); err != nil {
		c.log.Warn("a copy job cannot note the events that it owes; a restart may send them twice", "repository", c.r.Name, "digest", c.man.Digest.String(), "err", err)
		return
	}
	c.local.withdraw(ctx, kept)
}

// enlist returns the records that keep the event of a tag, or of none.
func (c *change) enlist(ctx context.Context, tag string) (records []store.RecordChange, err error) {
	e, err := c.enlister.Enlist(ctx, c.local.records, []webhook.Event{pushEvent(c.run.Job, c.man, tag)})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	if e == nil {
		return nil, fmt.Errorf("%w: the sink of the events keeps them elsewhere now", errNotSent)
	}
	c.enlisted = append(c.enlisted, e)
	for _, r := range e.Records {
		records = append(records, store.RecordChange(r))
	}
	return records, nil
}

// done tells the sink of the events what became of the change.
func (c *change) done(err error) {
	for i, e := range c.enlisted {
		if err == nil && i < c.tags {
			e.Done(c.batch.Tags[i].Err)
			if c.batch.Tags[i].Err == nil {
				c.run.Sent = append(c.run.Sent, c.batch.Tags[i].Tag)
			}
			continue
		}
		if e.Done(err); err == nil {
			c.run.Sent = append(c.run.Sent, "")
		}
	}
}

// eventID is the ID of an event of a job. It is derived from the job, so that it is the
// same when the job is done again after a crash.
func eventID(job string, k ledger.Key, tag string) string {
	h := sha256.Sum256([]byte(job + "\x00" + k.Repository + "\x00" + k.Digest.String() + "\x00" + tag))
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// pushEvent is an event of a job.
func pushEvent(job ledger.Job, man *oci.Content, tag string) webhook.Event {
	return webhook.Event{
		ID:        eventID(job.ID, job.Key(), tag),
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
