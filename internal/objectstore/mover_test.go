package objectstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/internal/objectstore/buckettest"
	"github.com/pullthrough/pullthrough/store"
)

func TestMoveTagTellsWhatWasThere(t *testing.T) {
	b := new(buckettest.Mem)
	one, two := replica(t, b, "one"), replica(t, b, "two")
	ctx := t.Context()
	move := func(s *objectstore.Store, to store.Tag, want store.Tag, wantErr error) {
		t.Helper()
		former, err := s.MoveTag(ctx, "a", "v1", to)
		if former.Digest != want.Digest || !errors.Is(err, wantErr) {
			t.Errorf("the former tag is %v, %v, want %v, %v", former.Digest, err, want.Digest, wantErr)
		}
	}
	first, second := tagAt("1", 1), tagAt("2", 2)
	move(one, first, store.Tag{}, nil)
	move(two, first, first, nil) // the other one has moved it
	move(one, first, first, nil)
	move(two, second, first, nil)
	move(one, second, second, nil)
	if _, err := one.MoveTag(ctx, "a", "v1", first); !errors.Is(err, store.ErrStale) {
		t.Errorf("MoveTag to an older answer: %v", err)
	}
	overwrite(t, b, keyWith(t, b, "/tags/"), "damaged")
	move(one, first, store.Tag{}, nil)
	if err := one.DeleteTag(ctx, "a", "v1"); err != nil {
		t.Fatal(err)
	}
	move(one, first, store.Tag{}, nil)
}

// Two replicas move a tag to the same answer at once: one of them has moved it.
func TestOneOfTwoHasMovedATag(t *testing.T) {
	b := new(buckettest.Mem)
	one, two := replica(t, b, "one"), replica(t, b, "two")
	ctx := t.Context()
	if err := one.SetTag(ctx, "a", "v1", tagAt("0", 0)); err != nil {
		t.Fatal(err)
	}
	b.Before = func(ctx context.Context, method, _ string) error {
		if method != "Put" {
			return nil
		}
		b.Before = nil
		former, err := two.MoveTag(ctx, "a", "v1", tagAt("1", 1))
		if former.Digest != tagAt("0", 0).Digest {
			t.Errorf("for who has moved it the former tag is %v", former.Digest)
		}
		return err
	}
	former, err := one.MoveTag(ctx, "a", "v1", tagAt("1", 1))
	if err != nil || former.Digest != tagAt("1", 1).Digest {
		t.Errorf("for who came too late the former tag is %v, %v", former.Digest, err)
	}
}

// Who does not hear that he has moved a tag finds it out.
func TestMoveWhoseAnswerIsLost(t *testing.T) {
	b := &lossy{Mem: new(buckettest.Mem)}
	s := replica(t, b, "")
	for _, c := range []struct{ to, former store.Tag }{{tagAt("0", 0), store.Tag{}}, {tagAt("1", 1), tagAt("0", 0)}} {
		lost := true
		b.after = func(_ string, err error) error {
			if lost && err == nil {
				lost, err = false, objectstore.ErrChanged // which the second try of the client hears
			}
			return err
		}
		former, err := s.MoveTag(t.Context(), "a", "v1", c.to)
		if err != nil || former.Digest != c.former.Digest || lost {
			t.Errorf("the former tag is %v, %v, want %v", former.Digest, err, c.former.Digest)
		}
	}
}

// A hint of a referrer outlives what it was about.
func TestReferrerThatHasAnotherSubject(t *testing.T) {
	b := new(buckettest.Mem)
	s := replica(t, b, "")
	i := manifestInfo([]byte("m"))
	for _, subject := range []digest.Digest{digest.FromString("old"), digest.FromString("new")} {
		i.Subject = subject
		put(t, s, "a", i, []byte("m"))
	}
	for d, err := range s.Referrers(t.Context(), "a", digest.FromString("old")) {
		t.Errorf("a referrer is %+v, %v", d, err)
	}
	n := 0
	for d, err := range s.Referrers(t.Context(), "a", digest.FromString("new")) {
		if n++; err != nil || d.Digest != i.Digest {
			t.Errorf("a referrer is %+v, %v", d, err)
		}
	}
	if n != 1 {
		t.Errorf("%d referrers, want 1", n)
	}
	if err := s.Delete(t.Context(), "a", i.Digest); err != nil {
		t.Fatal(err)
	}
	for d, err := range s.Referrers(t.Context(), "a", digest.FromString("new")) {
		t.Errorf("after Delete a referrer is %+v, %v", d, err)
	}
}

// What others have written into the bucket is read with care.
func FuzzStoredTag(f *testing.F) {
	good, _ := json.Marshal(tagAt("1", 1))
	f.Add(good)
	f.Add([]byte(`{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","asked":"2026-01-01T00:00:00Z","source":"a"}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := new(buckettest.Mem)
		s := replica(t, b, "")
		overwrite(t, b, "v1/images/a!/tags/v1", string(data))
		got, err := s.Tag(t.Context(), "a", "v1")
		if err != nil {
			if !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			if err := s.SetTag(t.Context(), "a", "v1", tagAt("1", 1)); err != nil {
				t.Errorf("over what is damaged: %v", err)
			}
			return
		}
		if err := store.CheckTagValue(got); err != nil {
			t.Error(err)
		}
		if err := s.SetTag(t.Context(), "a", "v1", got); err != nil {
			t.Errorf("the same again: %v", err)
		}
	})
}

func FuzzStoredLink(f *testing.F) {
	i := manifestInfo([]byte("m"))
	good, _ := json.Marshal(i)
	f.Add(good, true)
	f.Add(good, false)
	f.Add([]byte(`{"size":-1}`), true)
	f.Fuzz(func(t *testing.T, data []byte, manifest bool) {
		b := new(buckettest.Mem)
		s := replica(t, b, "")
		put(t, s, "b", i, []byte("m"))
		key := "v1/layers/a!/sha256-" + i.Digest.Encoded()
		if manifest {
			key = "v1/images/a!/manifests/sha256-" + i.Digest.Encoded()
		}
		overwrite(t, b, key, string(data))
		got, err := s.Stat(t.Context(), "a", i.Digest)
		if err != nil {
			if !errors.Is(err, store.ErrNotFound) {
				t.Error(err)
			}
			return
		}
		if got.Digest != i.Digest || got.Size != 1 || got.IsManifest() != manifest || store.CheckInfo("a", got) != nil {
			t.Errorf("%q is %+v", data, got)
		}
	})
}
