package cache

import (
	"context"
	"errors"
	"fmt"

	"github.com/pullthrough/pullthrough/internal/recordset"
	"github.com/pullthrough/pullthrough/store"
)

// tried is how far changes came that are made one by one, until one failed.
type tried struct {
	tags    int  // that were handled: each says in its Err what became of it, and errDoubt if that is not known
	records bool // the records of the batch were begun
}

// apply makes changes as one if the store is a [store.Batcher], and otherwise one by one
// in an order that loses nothing: what is to be written when a tag moves is written
// before the tag is set. With withdraw, it is deleted again if the tag is not set.
func (l *local) apply(ctx context.Context, b *store.Batch, withdraw bool) (reached tried, err error) {
	if s, ok := store.As[store.Batcher](l.store); ok {
		return reached, s.Apply(ctx, b)
	}
	for _, p := range b.Content {
		if err := l.create(ctx, p); err != nil {
			return reached, err
		}
	}
	for i := range b.Tags {
		t := &b.Tags[i]
		reached.tags++
		if t.Err = l.changeRecords(ctx, t.Records); t.Err == nil {
			t.Err = l.moveTag(ctx, t)
		}
		if t.Err != nil && withdraw && !errors.Is(t.Err, errDoubt) {
			l.withdraw(ctx, t.Records)
		}
		if t.Err != nil && !errors.Is(t.Err, store.ErrStale) && !errors.Is(t.Err, errStands) {
			return reached, t.Err
		}
	}
	if err := remove(ctx, l.store, b.Deletions); err != nil {
		return reached, err
	}
	reached.records = true
	return reached, l.changeRecords(ctx, b.Records)
}

// evict makes deletions in what eviction frees.
func (l *local) evict(ctx context.Context, list []store.Deletion) error {
	if s, ok := store.As[store.Batcher](l.near); ok {
		return s.Apply(ctx, &store.Batch{Deletions: list})
	}
	return remove(ctx, l.near, list)
}

// errStands reports a tag that another cache has moved already to where it should be.
var errStands = errors.New("cache: the tag stands for that already")

// errDoubt reports a tag that may have moved.
var errDoubt = errors.New("cache: the tag may have moved")

// moveTag moves a tag. The error is errStands if the tag need not move, as far as the
// store tells that. A store may move a tag and fail before it says so. So the tag is read
// after an error, and the error wraps errDoubt if that fails, too.
func (l *local) moveTag(ctx context.Context, t *store.TagChange) (err error) {
	if s, ok := store.As[store.Mover](l.store); ok {
		var former store.Tag
		former, err = s.MoveTag(ctx, t.Repo, t.Tag, t.Value)
		if err == nil && former.Source == t.Value.Source && former.Digest == t.Value.Digest {
			return errStands
		}
	} else {
		err = l.store.SetTag(ctx, t.Repo, t.Tag, t.Value)
	}
	if err == nil || errors.Is(err, store.ErrStale) || errors.Is(err, store.ErrFull) {
		return err
	}
	switch now, failed := l.store.Tag(ctx, t.Repo, t.Tag); {
	case failed != nil && !errors.Is(failed, store.ErrNotFound):
		return fmt.Errorf("%w: %w", errDoubt, err)
	case failed == nil && now.Source == t.Value.Source && now.Digest == t.Value.Digest && now.Asked.Equal(t.Value.Asked):
		return nil
	}
	return err
}

func (l *local) create(ctx context.Context, p store.Piece) error {
	w, err := l.store.Create(ctx, p.Repo, p.Info)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(p.Bytes); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// remove makes the deletions of a batch one by one.
func remove(ctx context.Context, from store.Store, list []store.Deletion) error {
	if len(list) == 0 {
		return nil
	}
	s, ok := store.As[store.Deleter](from)
	if !ok {
		return errors.ErrUnsupported
	}
	for _, d := range list {
		var err error
		if d.Tag == "" {
			err = s.Delete(ctx, d.Repo, d.Digest)
		} else if now, terr := from.Tag(ctx, d.Repo, d.Tag); terr == nil && (d.Digest == "" || now.Digest == d.Digest) {
			err = s.DeleteTag(ctx, d.Repo, d.Tag)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changeRecords changes records one by one. A store without records has none to change.
func (l *local) changeRecords(ctx context.Context, list []store.RecordChange) (err error) {
	for _, c := range list {
		if c.Data == nil {
			err = l.records.DeleteRecord(ctx, c.Kind, c.Key)
		} else {
			err = l.records.PutRecord(ctx, c.Kind, c.Key, c.Data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// withdraw deletes records that were put. One that stays is an event too many.
func (l *local) withdraw(ctx context.Context, list []store.RecordChange) {
	ctx = context.WithoutCancel(ctx)
	for _, c := range list {
		if c.Data == nil {
			continue
		}
		if err := l.records.DeleteRecord(ctx, c.Kind, c.Key); err != nil {
			l.log.Warn("the record of an event that is not due yet cannot be deleted", "err", err)
		}
	}
}

// recordWriter returns what changes records as one, for a ledger. If the store cannot do that, the
// result is nil.
func (l *local) recordWriter() func(ctx context.Context, changes []recordset.Change) error {
	s, ok := store.As[store.Batcher](l.store)
	if !ok || l.records == nil {
		return nil
	}
	return func(ctx context.Context, changes []recordset.Change) error {
		b := &store.Batch{Records: make([]store.RecordChange, len(changes))}
		for i, c := range changes {
			b.Records[i] = store.RecordChange(c)
		}
		return s.Apply(ctx, b)
	}
}
