package cache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/internal/recordset"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// Delete forgets a tag or the manifest of a digest with its tags here; the
// upstream is not touched. The next pull copies it again. A manifest's deletion
// is an event, as in ACR; that of a tag alone is none. A store that cannot delete
// is an error that wraps [errors.ErrUnsupported].
func (c *Cache) Delete(ctx context.Context, repository, reference string) error {
	e := c.engine()
	r, d, err := e.name(ctx, AccessManifest, repository, reference)
	if err != nil {
		return err
	}
	s, ok := store.As[store.Deleter](e.local.store)
	if !ok {
		return fmt.Errorf("cache: the store cannot delete: %w", errors.ErrUnsupported)
	}
	end, err := e.deleting(ctx, r.Repo, reference)
	if err != nil {
		return err
	}
	defer end()
	if d == "" {
		return e.local.deleteTag(ctx, s, r.Repo, reference)
	}
	e.local.dropRead(ctx, r.Repo, d)
	if err := e.local.deleteTags(ctx, s, r.Repo, d); err != nil {
		return err
	}
	return e.deleteManifest(ctx, s, r, d)
}

// deleting begins a deletion here: copies of it are given up, and others are told. The
// function that it returns ends it.
func (e *engine) deleting(ctx context.Context, r origin.Repo, reference string) (end func(), err error) {
	d := Deletion{Repository: r.Name, Reference: reference, At: time.Now().UTC()}
	over := e.giveUp(d, d.At)
	begun := false
	defer func() {
		if !begun { // Cache.Deleted may panic
			over(time.Now())
		}
	}()
	if reference == "" {
		if err := e.local.deleted.wait(ctx, r.Name); err != nil {
			return nil, fmt.Errorf("cache: repository %s is being written to: %w", r.Name, err)
		}
	}
	tell := e.cfg.Deleted
	if tell == nil {
		tell = func(context.Context, Deletion) {}
	}
	ctx = context.WithoutCancel(ctx) // what begins to be deleted is to be told
	tell(ctx, d)
	begun = true
	return func() {
		e.local.deleted.era.Add(1)
		e.local.forget(ctx, r, reference) // what was read before it was deleted
		over(time.Now())
		d.Over = true
		tell(ctx, d)
	}, nil
}

// deleteManifest deletes content and sends the event of a manifest. The event is
// written down before, so that a crash in between does not lose it.
func (e *engine) deleteManifest(ctx context.Context, s store.Deleter, r repository, d digest.Digest) error {
	info, err := e.local.store.Stat(ctx, r.Name, d)
	if err != nil || !info.IsManifest() || e.cfg.Events == nil {
		return e.local.deleteManifest(ctx, s, r.Repo, d)
	}
	ev := webhook.Event{
		ID: webhook.NewID(), Timestamp: time.Now().UTC(), Action: webhook.ActionDelete,
		Target:  webhook.Target{MediaType: info.MediaType, Digest: d.String(), Repository: r.Name},
		Request: e.request(cause{method: http.MethodDelete}),
	}
	key := recordset.Key(r.Name, d.String())
	if owed := e.owedDeletes(); owed != nil {
		if err := owed.Put(ctx, key, ev); err != nil {
			return fmt.Errorf("cache: the event of a deletion cannot be kept: %w", err)
		}
	}
	if err := e.local.deleteManifest(ctx, s, r.Repo, d); err != nil {
		return err
	}
	return e.sendDelete(ctx, key, ev)
}

// owedDeletes are the events of manifests that are being deleted; nil if the store keeps
// no records.
func (e *engine) owedDeletes() *recordset.Set[webhook.Event] {
	records, ok := store.As[store.Records](e.local.store)
	if !ok {
		return nil
	}
	return &recordset.Set[webhook.Event]{Records: records, Kind: "deletes", NotFound: store.ErrNotFound}
}

// sendDelete sends the event of a deletion and drops its record.
func (e *engine) sendDelete(ctx context.Context, key string, ev webhook.Event) error {
	if err := e.cfg.Events.Send(ctx, ev); err != nil {
		return fmt.Errorf("cache: deleted, but its event was not taken over yet: %w", err)
	}
	if owed := e.owedDeletes(); owed != nil {
		return owed.Delete(ctx, key)
	}
	return nil
}

// finishDeletes sends the events of deletions that a former process did not get to. What
// is still stored was not deleted: its caller had no answer and asks again.
func (e *engine) finishDeletes() {
	owed := e.owedDeletes()
	if owed == nil || e.cfg.Events == nil {
		return
	}
	err := owed.Load(e.ctx, func(key string, ev webhook.Event, err error) {
		if err == nil {
			_, err = e.local.store.Stat(e.ctx, ev.Target.Repository, digest.Digest(ev.Target.Digest))
		}
		switch {
		case err == nil: // it is stored
			err = owed.Delete(e.ctx, key)
		case errors.Is(err, store.ErrNotFound):
			err = e.sendDelete(e.ctx, key, ev)
		}
		if err != nil && e.ctx.Err() == nil {
			e.log.Warn("an event of a deletion is left for the next start", "repository", ev.Target.Repository, "key", key, "err", err)
		}
	})
	if err != nil && e.ctx.Err() == nil {
		e.log.Warn("the events of deletions are left for the next start", "err", err)
	}
}
