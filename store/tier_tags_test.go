package store_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

func tagOf(img tierImage, asked time.Time) store.Tag {
	t := img.tag()
	t.Asked = asked
	return t
}

// Far decides about a tag, whichever process moved it, and Near follows.
func TestTagsAreThoseOfFar(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, now := t.Context(), time.Now()
		one, two := newImage("a", "one", 1), newImage("a", "two", 1)
		other, near := t.elsewhere()
		if err := t.tier.SetTag(ctx, "a", "v1", tagOf(one, now)); err != nil {
			t.Fatal(err)
		}
		if err := other.SetTag(ctx, "a", "v1", tagOf(two, now.Add(time.Second))); err != nil {
			t.Fatal(err)
		}
		if err := t.tier.SetTag(ctx, "a", "v1", tagOf(one, now)); !errors.Is(err, store.ErrStale) {
			t.Errorf("an older answer: %v", err)
		}
		wantTag(t, "here", t.tier, two)
		synctest.Wait()
		wantTag(t, "near", t.near.Mem, two)
		wantTag(t, "near elsewhere", near, two)
		if err := other.DeleteTag(ctx, "a", "v1"); err != nil {
			t.Fatal(err)
		}
		if _, err := t.tier.Tag(ctx, "a", "v1"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("deleted elsewhere: %v", err)
		}
		synctest.Wait()
		t.far.fails("")
		if _, err := t.tier.Tag(ctx, "a", "v1"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("what Far did not have stands in: %v", err)
		}
	})
}

func wantTag(t testing.TB, what string, s store.Store, img tierImage) {
	t.Helper()
	if got, err := s.Tag(t.Context(), "a", "v1"); err != nil || got.Digest != img.manifest.Info.Digest {
		t.Errorf("%s: %v, %v", what, got.Digest, err)
	}
}

// A tag that cannot be set far is not set near.
func TestTagThatFarDoesNotTake(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, now := t.Context(), time.Now()
		one, two := newImage("a", "one", 1), newImage("a", "two", 1)
		if err := t.tier.SetTag(ctx, "a", "v1", tagOf(one, now)); err != nil {
			t.Fatal(err)
		}
		t.far.fails("")
		if err := t.tier.SetTag(ctx, "a", "v1", tagOf(two, now.Add(time.Second))); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Far fails: %v", err)
		}
		wantTag(t, "near", t.near.Mem, one)
		wantTag(t, "here", t.tier, one)
	})
}

// moverStore is a Far that says what a tag pointed to before.
type moverStore struct{ *spy }

func (s moverStore) MoveTag(ctx context.Context, repo, tag string, v store.Tag) (former store.Tag, err error) {
	former, err = s.Mem.Tag(ctx, repo, tag)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return former, errors.Join(err, s.SetTag(ctx, repo, tag, v))
}

// Far says what a tag pointed to before it moved, and Near follows.
func TestTierMovesTags(t *testing.T) {
	inTier(t, func(t *tierTest) {
		tier, now := newTier(t, t.near, moverStore{t.far}), time.Now()
		one, two := newImage("a", "one", 1), newImage("a", "two", 1)
		wantAbility[store.Mover](t.T, tier, true)
		for i, img := range []tierImage{one, two} {
			former, err := tier.MoveTag(t.Context(), "a", "v1", tagOf(img, now.Add(time.Duration(i)*time.Second)))
			if want := []digestType{"", one.manifest.Info.Digest}[i]; err != nil || former.Digest != want {
				t.Errorf("it pointed to %q, not %q: %v", former.Digest, want, err)
			}
			wantTag(t, "near", t.near.Mem, img)
		}
		if _, err := tier.MoveTag(t.Context(), "a", "v1", tagOf(one, now)); !errors.Is(err, store.ErrStale) {
			t.Errorf("an older answer: %v", err)
		}
		if _, err := t.tier.MoveTag(t.Context(), "a", "v1", tagOf(one, now)); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a Far that cannot: %v", err)
		}
	})
}

// A tag that Far refuses, or did not set, has not moved, and an answer is not asked for twice.
func TestTagThatDidNotMove(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, now := t.Context(), time.Now()
		one, two := newImage("a", "one", 1), newImage("a", "two", 1)
		if err := t.tier.SetTag(ctx, "a", "v1", tagOf(one, now)); err != nil {
			t.Fatal(err)
		}
		t.far.take()
		if err := t.tier.SetTag(ctx, "a", "v1", tagOf(two, now.Add(-time.Second))); !errors.Is(err, store.ErrStale) {
			t.Errorf("an older answer: %v", err)
		}
		t.asked(1, "an older answer")
		t.far.meets(func(ctxType) error { return store.ErrFull }, "SetTag")
		if err := t.tier.SetTag(ctx, "a", "v1", tagOf(two, now.Add(time.Second))); !errors.Is(err, store.ErrFull) {
			t.Errorf("a store that is full: %v", err)
		}
		t.asked(1, "a store that is full")
		t.far.fails("SetTag")
		if err := t.tier.SetTag(ctx, "a", "v1", tagOf(two, now.Add(time.Second))); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Far fails: %v", err)
		}
		wantTag(t, "near", t.near.Mem, one)
	})
}

// A tag that moved although Far did not say so has moved.
func TestTagThatMovedWithoutAnAnswer(t *testing.T) {
	inTier(t, func(t *tierTest) {
		one := newImage("a", "one", 1)
		tag := tagOf(one, time.Now())
		t.far.meets(func(ctx ctxType) error {
			if err := t.far.Mem.SetTag(ctx, "a", "v1", tag); err != nil {
				return err
			}
			return errSpy
		}, "SetTag")
		if err := t.tier.SetTag(t.Context(), "a", "v1", tag); err != nil {
			t.Errorf("it has moved: %v", err)
		}
		wantTag(t, "near", t.near.Mem, one)
	})
}

// The near copy of a tag follows in all that is compared, and one that is the same, or is
// nowhere, is not written.
func TestNearCopyOfATagFollows(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, now := t.Context(), time.Now()
		tag := tagOf(newImage("a", "one", 1), now)
		source, digest, asked := tag, tagOf(newImage("a", "two", 1), now), tag
		source.Source += "/other"
		asked.Asked = now.Add(time.Second)
		if _, err := t.tier.Tag(ctx, "a", "v1"); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		synctest.Wait()
		if calls := t.near.take(); len(calls) != 1 {
			t.Errorf("near was called for a tag that is nowhere: %q", calls)
		}
		for _, v := range []store.Tag{tag, asked, source, tag, digest, tag} {
			if err := errors.Join(t.far.Mem.DeleteTag(ctx, "a", "v1"), t.far.Mem.SetTag(ctx, "a", "v1", v)); err != nil {
				t.Fatal(err)
			}
			for n := range 2 {
				t.near.take()
				if _, err := t.tier.Tag(ctx, "a", "v1"); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if calls := t.near.take(); len(calls) != 2-n {
					t.Errorf("near was called: %q", calls)
				}
				if got, err := t.near.Mem.Tag(ctx, "a", "v1"); err != nil || got.Source != v.Source || got.Digest != v.Digest || !got.Asked.Equal(v.Asked) {
					t.Errorf("near there is %+v, want %+v: %v", got, v, err)
				}
			}
		}
	})
}

// A tag that is deleted while it is looked up does not stay near.
func TestTagThatIsDeletedWhileItIsLookedUp(t *testing.T) {
	for _, at := range []string{"far", "near", "deletion", "deletion and near"} {
		inTier(t, func(t *tierTest) {
			ctx, one := t.Context(), newImage("a", "one", 1)
			other, _ := t.elsewhere()
			if err := other.SetTag(ctx, "a", "v1", one.tag()); err != nil {
				t.Fatal(err)
			}
			if at == "far" {
				t.far.arrive(time.Second, "Tag")
			} else if at != "deletion" {
				t.near.meets(func(ctxType) error { time.Sleep(time.Second); return nil }, "SetTag")
			}
			look := func() { _, _ = t.tier.Tag(ctx, "a", "v1") }
			if strings.HasPrefix(at, "deletion") {
				t.far.meets(func(ctxType) error { time.Sleep(500 * time.Millisecond); return nil }, "DeleteTag")
				time.AfterFunc(100*time.Millisecond, look)
			} else {
				go look()
				synctest.Wait()
			}
			if err := t.tier.DeleteTag(ctx, "a", "v1"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if _, err := t.near.Mem.Tag(ctx, "a", "v1"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("held at %s: it is near: %v", at, err)
			}
		})
	}
}

// A copy of a tag that is not what Far has does not stand in.
func TestNearCopyThatIsOld(t *testing.T) {
	one, two := newImage("a", "one", 1), newImage("a", "two", 1)
	for name, set := range map[string]func(t *tierTest, v store.Tag) error{
		"near fails": func(t *tierTest, v store.Tag) error {
			t.near.fails("SetTag")
			return t.tier.SetTag(t.Context(), "a", "v1", v)
		},
		"the caller leaves": func(t *tierTest, v store.Tag) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			t.far.meets(func(ctx ctxType) error {
				if err := t.far.Mem.SetTag(ctx, "a", "v1", v); err != nil {
					return err
				}
				<-ctx.Done()
				return ctx.Err()
			}, "SetTag")
			return t.tier.SetTag(ctx, "a", "v1", v)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTier(t, func(t *tierTest) {
				if err := t.tier.SetTag(t.Context(), "a", "v1", tagOf(one, time.Now())); err != nil {
					t.Fatal(err)
				}
				if err := set(t, tagOf(two, time.Now().Add(time.Second))); err != nil {
					t.Errorf("it has moved: %v", err)
				}
				t.near.works()
				t.far.fails("")
				if got, err := t.tier.Tag(t.Context(), "a", "v1"); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("an old tag stands in: %v, %v", got.Digest == one.manifest.Info.Digest, err)
				}
			})
		})
	}
}

// Of two tags that move at once, the later one stays near, too.
func TestTagsThatMoveAtOnce(t *testing.T) {
	inTier(t, func(t *tierTest) {
		one, two := newImage("a", "one", 1), newImage("a", "two", 1)
		t.near.meets(func(ctxType) error { time.Sleep(time.Second); return nil }, "SetTag")
		var all sync.WaitGroup
		all.Go(func() {
			if err := t.tier.SetTag(t.Context(), "a", "v1", tagOf(one, time.Now())); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		t.near.works()
		if err := t.tier.SetTag(t.Context(), "a", "v1", tagOf(two, time.Now().Add(time.Second))); err != nil {
			t.Error(err)
		}
		all.Wait()
		wantTag(t, "near", t.near.Mem, two)
	})
}

// An answer that there is no tag, which comes late, does not delete the near copy of one
// that was set meanwhile.
func TestTagThatIsSetWhileItIsLookedFor(t *testing.T) {
	inTier(t, func(t *tierTest) {
		one := newImage("a", "one", 1)
		t.far.set(func(_ ctxType, call string) error {
			if call != "Tag v1" {
				return nil
			}
			time.Sleep(time.Second)
			return store.ErrNotFound // as it was when it was asked
		})
		go func() { _, _ = t.tier.Tag(t.Context(), "a", "v1") }()
		synctest.Wait()
		if err := t.tier.SetTag(t.Context(), "a", "v1", tagOf(one, time.Now())); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wantTag(t, "near", t.near.Mem, one)
	})
}
