package store

import (
	"context"
	"errors"
	"time"
)

// Tag implements [Tags]. While Far fails, the tag is that of Near, if it has it.
func (t *Tier) Tag(ctx context.Context, repo, tag string) (Tag, error) {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return Tag{}, err
	}
	era, deletions := t.state().memory.now(), t.state().memory.deletions.Load()
	got, err := t.tagFar(ctx, repo, tag)
	if err == nil || errors.Is(err, ErrNotFound) {
		t.mirror(ctx, repo, tag, got, era, deletions)
		return got, err
	}
	near, nerr := t.Near.Tag(ctx, repo, tag)
	if nerr != nil {
		return Tag{}, err
	}
	return near, nil
}

func (t *Tier) tagFar(ctx context.Context, repo, tag string) (got Tag, err error) {
	err = t.ask(ctx, t.patience(), func(ctx context.Context, _ *time.Timer) (err error) {
		got, err = t.Far.Tag(ctx, repo, tag)
		return err
	})
	return got, err
}

// sameTag reports whether two values are the same answer about a tag.
func sameTag(a, b Tag) bool {
	return a.Source == b.Source && a.Digest == b.Digest && a.Asked.Equal(b.Asked)
}

// mirror brings the copy that Near has of a tag up to date, behind the caller. got is what
// Far has, or the zero Tag, as the answer to a question of an era, and deletions is how many
// there were before it.
func (t *Tier) mirror(ctx context.Context, repo, tag string, got Tag, era, deletions int64) {
	near, err := t.Near.Tag(ctx, repo, tag)
	missing := errors.Is(err, ErrNotFound)
	if err != nil && !missing || err == nil && sameTag(near, got) || missing && got.Digest == "" {
		return
	}
	m := &t.state().memory
	t.state().work.do(farKey{repo: repo, origin: tag}, func(ctx context.Context) {
		if got.Digest == "" {
			if m.now() == era {
				t.dropNearTag(ctx, repo, tag)
			}
			return
		}
		if err := t.Near.SetTag(ctx, repo, tag, got); err != nil && !errors.Is(err, ErrStale) && ctx.Err() == nil {
			t.log().Warn("a tag of the far store cannot be kept near", "repository", repo, "tag", tag, "err", err)
		}
		if m.deletions.Load() != deletions { // perhaps this one
			t.dropNearTag(ctx, repo, tag)
		}
	})
}

// dropNearTag deletes the copy that Near has of a tag.
func (t *Tier) dropNearTag(ctx context.Context, repo, tag string) {
	s, ok := As[Deleter](t.Near)
	if !ok {
		return
	}
	if err := s.DeleteTag(context.WithoutCancel(ctx), repo, tag); err != nil {
		t.log().Warn("the near copy of a tag cannot be deleted", "repository", repo, "tag", tag, "err", err)
	}
}

// SetTag implements [Tags]. Far decides. What fails near fails nothing: Near then has no
// copy that could stand in.
func (t *Tier) SetTag(ctx context.Context, repo, tag string, v Tag) error {
	return t.setTag(ctx, repo, tag, v, t.Far.SetTag)
}

// MoveTag implements [Mover] with Far. If Far did not say what the tag pointed to before,
// and the tag stands as it should, it was this call that moved it.
func (t *Tier) MoveTag(ctx context.Context, repo, tag string, v Tag) (former Tag, err error) {
	far, err := able[Mover](t.Far)
	if err != nil {
		return Tag{}, err
	}
	err = t.setTag(ctx, repo, tag, v, func(ctx context.Context, repo, tag string, v Tag) (err error) {
		former, err = far.MoveTag(ctx, repo, tag, v)
		return err
	})
	return former, err
}

// setTag sets a tag far by set, and then near.
func (t *Tier) setTag(ctx context.Context, repo, tag string, v Tag, set func(context.Context, string, string, Tag) error) error {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return err
	}
	if err := CheckTagValue(v); err != nil {
		return err
	}
	err := t.ask(ctx, writePatience, func(ctx context.Context, _ *time.Timer) error { return set(ctx, repo, tag, v) })
	if err != nil && !t.hasMoved(ctx, repo, tag, v, err) {
		return err
	}
	t.state().memory.changed()
	err = t.Near.SetTag(ctx, repo, tag, v)
	if err != nil && !errors.Is(err, ErrStale) {
		t.log().Warn("a tag moved far, but not near", "repository", repo, "tag", tag, "err", err)
		t.dropNearTag(ctx, repo, tag)
	}
	return nil
}

// hasMoved reports whether a tag has moved far although that failed with an error, such as
// of a connection that was lost before the answer.
func (t *Tier) hasMoved(ctx context.Context, repo, tag string, v Tag, err error) bool {
	if errors.Is(err, ErrStale) || errors.Is(err, ErrFull) {
		return false
	}
	now, err := t.tagFar(context.WithoutCancel(ctx), repo, tag)
	return err == nil && sameTag(now, v)
}
