package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// recordDeletes is the kind of the records of manifests that are being deleted:
// the events that are owed for them.
const recordDeletes = "deletes"

// Delete forgets a tag or the manifest of a digest with its tags here; the
// upstream is not touched. The next pull copies it again. A manifest's deletion
// is an event, as in ACR; that of a tag alone is none. A store that cannot delete
// is an error that wraps [errors.ErrUnsupported].
func (c *Cache) Delete(ctx context.Context, repository, reference string) error {
	e := c.engine()
	p, d, err := e.name(ctx, kindManifest, repository, reference)
	if err != nil {
		return err
	}
	s, ok := store.As[store.Deleter](e.store)
	if !ok {
		return fmt.Errorf("cache: the store cannot delete: %w", errors.ErrUnsupported)
	}
	e.deleted.note(p.repo, reference)
	e.jobs.forget(p, reference)
	if p.match != nil && d != "" {
		e.read.drop(ctx, p.readKey(d))
	}
	defer e.deleted.era.Add(1)
	if d == "" {
		err = s.DeleteTag(ctx, p.repo, reference)
		e.tags.Delete(tagKey{p.repo, reference})
		return err
	}
	if err := e.deleteTags(ctx, s, p, d); err != nil {
		return err
	}
	return e.deleteManifest(ctx, s, p, d)
}

// deletions says when something was deleted, so that a copy that began before
// does not bring it back.
type deletions struct {
	times *lru.Cache[tagKey, time.Time] // by tag, or by digest
	era   atomic.Int64                  // grows with each: what was read before may be gone
}

func (d *deletions) note(repo, reference string) { d.times.Put(tagKey{repo, reference}, time.Now(), 1) }

// after reports whether it was deleted after a time.
func (d *deletions) after(repo, reference string, then time.Time) bool {
	at, ok := d.times.Get(tagKey{repo, reference})
	return ok && at.After(then)
}

// forget gives up the copies of what is deleted: of a digest the copy, of a tag
// the move.
func (j *jobs) forget(p place, reference string) {
	j.lock()
	defer j.unlock()
	for k, t := range j.repos[p.repo] {
		if t.job.Digest.String() == reference {
			j.remove(k, t, errGone)
			j.wake(k)
			continue
		}
		var tags []TagSighting
		for _, s := range t.job.Tags {
			if s.Tag != reference {
				tags = append(tags, s)
			}
		}
		if len(tags) < len(t.job.Tags) {
			t.job.Tags = tags
			j.save(k)
		}
	}
}

// deleteTags deletes the tags of a manifest first, so that none stands for
// nothing.
func (e *engine) deleteTags(ctx context.Context, s store.Deleter, p place, d digest.Digest) error {
	l, ok := store.As[store.Lister](e.store)
	if !ok {
		return nil
	}
	for tag, err := range l.TagNames(ctx, p.repo, "") {
		if err != nil {
			return err
		}
		if t, err := e.store.Tag(ctx, p.repo, tag); err == nil && t.Digest == d {
			if err := s.DeleteTag(ctx, p.repo, tag); err != nil {
				return err
			}
			e.tags.Delete(tagKey{p.repo, tag})
		}
	}
	return nil
}

// deleteManifest deletes content and sends the event of a manifest. The event is
// written down before, so that a crash in between does not lose it.
func (e *engine) deleteManifest(ctx context.Context, s store.Deleter, p place, d digest.Digest) error {
	info, err := e.store.Stat(ctx, p.repo, d)
	gone := func() error {
		err := s.Delete(ctx, p.repo, d)
		e.hot.Delete(content{p.repo, d})
		return err
	}
	if err != nil || !info.IsManifest() || e.cfg.Events == nil {
		return gone()
	}
	ev := e.deleteEvent(p.repo, info.Descriptor)
	key := recordKey(content{p.repo, d})
	if r := e.jobs.records.store; r != nil {
		data, _ := json.Marshal(ev) // plain data
		if err := r.PutRecord(ctx, recordDeletes, key, data); err != nil {
			return fmt.Errorf("cache: the event of a deletion cannot be kept: %w", err)
		}
	}
	if err := gone(); err != nil {
		return err
	}
	return e.sendDelete(ctx, key, ev)
}

func (e *engine) deleteEvent(repo string, desc ocispec.Descriptor) webhook.Event {
	return webhook.Event{
		ID: webhook.NewID(), Timestamp: time.Now().UTC(), Action: webhook.ActionDelete,
		Target:  webhook.Target{MediaType: desc.MediaType, Digest: desc.Digest.String(), Repository: repo},
		Request: e.request(cause{method: http.MethodDelete}),
	}
}

// sendDelete sends the event of a deletion and drops its record.
func (e *engine) sendDelete(ctx context.Context, key string, ev webhook.Event) error {
	if err := e.cfg.Events.Send(ctx, ev); err != nil {
		return fmt.Errorf("cache: deleted, but its event was not taken over yet: %w", err)
	}
	if r := e.jobs.records.store; r != nil {
		return r.DeleteRecord(ctx, recordDeletes, key)
	}
	return nil
}

// finishDeletes sends the events of deletions that a former process did not get
// to. What is still there was not deleted: its caller had no answer and asks
// again.
func (e *engine) finishDeletes() {
	r := e.jobs.records.store
	if r == nil || e.cfg.Events == nil {
		return
	}
	for key, err := range r.RecordKeys(e.ctx, recordDeletes) {
		if err != nil {
			return
		}
		data, err := r.Record(e.ctx, recordDeletes, key)
		var ev webhook.Event
		if err != nil || json.Unmarshal(data, &ev) != nil {
			continue
		}
		_, err = e.store.Stat(e.ctx, ev.Target.Repository, digest.Digest(ev.Target.Digest))
		if err == nil {
			_ = r.DeleteRecord(e.ctx, recordDeletes, key)
		}
		if !errors.Is(err, store.ErrNotFound) {
			continue // it is there, or nobody knows
		}
		if err := e.sendDelete(e.ctx, key, ev); err != nil {
			e.log.Warn("an event of a deletion is left for the next start", "repository", ev.Target.Repository, "err", err)
		}
	}
}
