package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// moves are the tags that a job has moved, and what was known of them then.
type moves map[string]time.Time

// left are the tags that are still to move.
func (m moves) left(tags []TagSighting) (left []TagSighting) {
	for _, t := range tags {
		if at, ok := m[t.Tag]; !ok || t.Asked.After(at) {
			t.Due = t.Due && !ok // what was told is not due any more
			left = append(left, t)
		}
	}
	return left
}

// all reports whether none of the tags is left to move.
func (m moves) all(tags []TagSighting) bool { return len(m.left(tags)) == 0 }

// finish links a manifest whose content is complete, completes its parents,
// moves its tags and sends its events.
func (e *engine) finish(ctx context.Context, p place, job Job, w work) (moves, error) {
	if e.deleted.after(p.repo, job.Digest.String(), job.Created) {
		return nil, errGone
	}
	if _, err := e.current(ctx, p); errors.Is(err, errGone) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPlace, err)
	}
	moved := moves{}
	tags := e.pledge(ctx, p, job, moved)
	if !w.complete {
		if err := e.link(ctx, p, w.manifest); err != nil {
			return nil, err
		}
		if e.deleted.after(p.repo, job.Digest.String(), job.Created) { // just now
			return nil, e.unlink(ctx, p, job)
		}
	}
	for _, parent := range e.jobs.parents(p, job.Digest) {
		e.finishParent(ctx, p, parent)
	}
	var events []webhook.Event
	for len(tags) > 0 {
		for _, t := range tags {
			moved[t.Tag] = t.Asked
			due, err := e.moveTag(ctx, p, job, w.manifest, t)
			if err != nil {
				return nil, err
			}
			if due {
				events = append(events, pushEvent(job, w.manifest, t.Tag))
			}
		}
		tags = e.pledge(ctx, p, job, moved)
	}
	if job.Incomplete {
		events = append(events, pushEvent(job, w.manifest, ""))
	}
	return moved, e.tell(ctx, events)
}

// finishParent finishes an index that waited, if it need not wait for others
// too.
func (e *engine) finishParent(ctx context.Context, p place, parent *jobEntry) {
	j := &e.jobs
	j.lock()
	job := parent.job
	j.unlock()
	var moved moves
	w, err := e.ready(ctx, p, job, parent.man)
	if err == nil {
		moved, err = e.copy(ctx, p, job, w)
	}
	j.lock()
	j.ended(parent, moved, err)
	j.unlock()
}

// move is a tag that is about to move.
type move struct {
	TagSighting
	again bool // a former try may have moved it
}

// pledge takes the tags that are still to move and writes down which events the
// job owes before anything shows that it does, so that neither a crash nor a
// loss of power between a tag and its event loses the event.
func (e *engine) pledge(ctx context.Context, p place, job Job, moved moves) []move {
	j := &e.jobs
	var tags []move
	owes := job.Incomplete && len(moved) == 0
	for _, t := range j.tags(job, moved) {
		m := move{TagSighting: t, again: t.Due}
		if e.deleted.after(p.repo, t.Tag, t.Asked) {
			moved[t.Tag] = t.Asked // it does not move any more
			continue
		}
		m.Due = m.Due || e.moving(ctx, p, job, t)
		owes = owes || m.Due
		tags = append(tags, m)
	}
	if e.cfg.Events == nil || !owes {
		return tags
	}
	j.lock()
	k := content{job.Repository, job.Digest}
	t := j.entries[k]
	var s saved
	if t != nil {
		due := slices.Clone(t.job.Tags)
		for i := range due {
			due[i].Due = due[i].Due || slices.ContainsFunc(tags, func(m move) bool { return m.Tag == due[i].Tag && m.Due })
		}
		t.job.Tags = due
		s = j.save(k)
	}
	j.unlock()
	if t != nil {
		s.settle(ctx)
		e.syncRecords(ctx)
	}
	return tags
}

// moving reports whether a tag does not stand for the job's manifest yet, or
// does by this very sighting.
func (e *engine) moving(ctx context.Context, p place, job Job, t TagSighting) bool {
	now, err := e.store.Tag(ctx, p.repo, t.Tag)
	return err != nil || now.Source != p.source || now.Digest != job.Digest || now.Asked.Equal(t.Asked)
}

// link makes a manifest visible. It is the last thing that makes it complete.
func (e *engine) link(ctx context.Context, p place, man *manifest) error {
	parsed := man.parsed
	info := store.Info{Descriptor: man.desc, Manifest: true, Source: p.source, Subject: parsed.Subject}
	if parsed.Subject != "" {
		info.ArtifactType, info.Annotations = parsed.ArtifactType, parsed.Annotations
	}
	w, err := e.store.Create(ctx, p.repo, info)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(man.body); err != nil {
		return err
	}
	if err := w.Commit(ctx); err != nil {
		return err
	}
	e.stats.copied.Add(1)
	e.remember(p, man)
	if key := p.readKey(man.desc.Digest); e.read.has(key) {
		e.read.drop(ctx, key)
	}
	return nil
}

// moveTag makes a tag stand for a complete manifest, unless it stands for a
// later answer, and reports whether its event is due.
func (e *engine) moveTag(ctx context.Context, p place, job Job, man *manifest, t move) (due bool, err error) {
	if !t.Due {
		e.forget(tagKey{p.repo, t.Tag}, t.Asked)
		return false, nil // another copy of the same was faster
	}
	now, err := e.store.Tag(ctx, p.repo, t.Tag)
	if err != nil || now.Source != p.source || now.Digest != job.Digest {
		s := e.stored(ctx, p, t.Tag)
		if err := e.admit(p, t.Tag, man, s); err != nil {
			e.log.Info("a tag does not move: not admitted", "repository", p.repo, "tag", t.Tag, "digest", job.Digest.String(), "err", err)
			return false, nil
		}
	}
	err = e.store.SetTag(ctx, p.repo, t.Tag, store.Tag{Descriptor: man.desc, Source: p.source, Asked: t.Asked})
	e.forget(tagKey{p.repo, t.Tag}, t.Asked)
	if errors.Is(err, store.ErrStale) {
		return t.again, nil // it may have moved before, and on since then
	}
	if err == nil && (e.deleted.after(p.repo, t.Tag, t.Asked) || e.deleted.after(p.repo, job.Digest.String(), job.Created)) {
		return false, e.untag(ctx, p, t) // just now
	}
	return err == nil, err
}

// unlink takes back what was deleted while it was linked, unless somebody pulled
// it since then.
func (e *engine) unlink(ctx context.Context, p place, job Job) error {
	k := content{p.repo, job.Digest}
	e.jobs.lock()
	t := e.jobs.entries[k]
	e.jobs.unlock()
	if s, ok := store.As[store.Deleter](e.store); ok && (t == nil || t.job.ID == job.ID) {
		if err := s.Delete(ctx, p.repo, job.Digest); err != nil {
			return err
		}
		e.hot.Delete(k)
	}
	return errGone
}

// untag takes back a tag that was deleted while it moved, unless it moved again.
func (e *engine) untag(ctx context.Context, p place, t move) error {
	s, ok := store.As[store.Deleter](e.store)
	now, err := e.store.Tag(ctx, p.repo, t.Tag)
	if !ok || err != nil || !now.Asked.Equal(t.Asked) {
		return nil
	}
	err = s.DeleteTag(ctx, p.repo, t.Tag)
	e.tags.Delete(tagKey{p.repo, t.Tag})
	return err
}

// pushEvent is an event of a job. Its ID is derived from the job, so that it is
// the same when the job is done again after a crash.
func pushEvent(job Job, man *manifest, tag string) webhook.Event {
	h := sha256.Sum256([]byte(job.ID + "\x00" + job.Repository + "\x00" + job.Digest.String() + "\x00" + tag))
	return webhook.Event{
		ID:        fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16]),
		Timestamp: time.Now().UTC(), Action: webhook.ActionPush,
		Target: webhook.Target{
			MediaType: man.desc.MediaType, Size: man.desc.Size, Length: man.desc.Size,
			Digest: job.Digest.String(), Repository: job.Repository, Tag: tag,
		},
		Request: job.Request,
	}
}

// tell sends what a job owes, all at once.
func (e *engine) tell(ctx context.Context, events []webhook.Event) error {
	if e.cfg.Events == nil || len(events) == 0 {
		return nil
	}
	if err := webhook.SendAll(ctx, e.cfg.Events, events); err != nil {
		return fmt.Errorf("%w: %w", errNotTold, err)
	}
	return nil
}

// manifest returns a manifest that is being copied, nil if it is not.
func (j *jobs) manifest(p place, d digest.Digest) *manifest {
	j.lock()
	defer j.unlock()
	t := j.entries[content{p.repo, d}]
	if t == nil || p.match == nil || t.job.Source != p.match.Source {
		return nil
	}
	return t.man
}

// parents takes the indexes that wait for the manifest d.
func (j *jobs) parents(p place, d digest.Digest) []*jobEntry {
	j.lock()
	defer j.unlock()
	var parents []*jobEntry
	for _, t := range j.repos[p.repo] {
		if t.state == jobWaiting && t.job.Source == p.match.Source && t.parsed.Names(d) {
			j.unpark(t)
			t.state = jobRunning
			parents = append(parents, t)
		}
	}
	return parents
}

// tags returns the tags of a job that have not moved yet, those included that
// came while it ran.
func (j *jobs) tags(job Job, moved moves) []TagSighting {
	j.lock()
	defer j.unlock()
	all := job.Tags
	if t := j.entries[content{job.Repository, job.Digest}]; t != nil {
		all = mergeTags(all, t.job.Tags)
	}
	return moved.left(all)
}
