package store_test

import (
	"errors"
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

// What is deleted is in neither store, whichever of them fails meanwhile.
func TestDeletionsOfATier(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, img := t.Context(), newImage("a", "one", 2)
		d := img.manifest.Info.Digest
		putImage(t, t.tier, img)
		if err := t.tier.SetTag(ctx, "a", "v1", img.tag()); err != nil {
			t.Fatal(err)
		}
		t.far.fails("Delete")
		if err := t.tier.Delete(ctx, "a", d); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Far fails: %v", err)
		}
		t.far.works()
		wantIn(t, "what could not be deleted", t.tier, img)
		synctest.Wait()
		t.near.fails("Delete")
		if err := t.tier.Delete(ctx, "a", d); !errors.Is(err, errSpy) {
			t.Errorf("Near fails: %v", err)
		}
		t.near.works()
		if err := t.tier.Delete(ctx, "a", d); err != nil {
			t.Error(err)
		}
		if err := t.tier.DeleteTag(ctx, "a", "v1"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for _, s := range []store.Store{t.tier, t.near, t.far} {
			if _, err := s.Stat(ctx, "a", d); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("the manifest: %v", err)
			}
			if _, err := s.Tag(ctx, "a", "v1"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("the tag: %v", err)
			}
		}
	})
}

// What is brought near while it is deleted does not stay, whenever it arrives.
func TestDeleteWhileItComesNear(t *testing.T) {
	for _, at := range []string{"Open", "Commit", "Delete"} {
		t.Run(at, func(t *testing.T) {
			inTier(t, func(t *tierTest) {
				ctx, img := t.Context(), newImage("a", "one", 2)
				other, _ := t.elsewhere()
				putImage(t, other, img)
				blob := img.blobs[1]
				hold := func(ctxType) error { time.Sleep(time.Second); return nil }
				switch at {
				case "Open":
					t.far.meets(hold, "Open")
				case "Commit":
					t.near.meets(hold, "Commit")
				case "Delete":
					t.far.meets(hold, "Delete")
				}
				for _, p := range []store.Piece{blob, img.manifest} {
					go func() { _ = readsPiece(ctx, t.tier, p) }()
				}
				time.Sleep(1500 * time.Millisecond)
				for _, p := range []store.Piece{img.manifest, blob} {
					if err := t.tier.Delete(ctx, "a", p.Info.Digest); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(time.Minute)
				for _, p := range []store.Piece{blob, img.manifest} {
					if _, err := t.near.Mem.Stat(ctx, "a", p.Info.Digest); !errors.Is(err, store.ErrNotFound) {
						t.Errorf("%s is near: %v", p.Info.MediaType, err)
					}
				}
			})
		})
	}
}

// A manifest that Far has does not become a blob because an image names it as a layer.
func TestManifestOfFarIsNotHiddenByABlob(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		other, _ := t.elsewhere()
		putImage(t, other, img)
		asBlob := img.manifest
		asBlob.Info.MediaType = "application/octet-stream"
		if _, err := t.tier.Stat(t.Context(), "a", asBlob.Info.Digest); err != nil { // as package cache looks before it writes
			t.Fatal(err)
		}
		if err := putPiece(t.Context(), t.tier, asBlob); err != nil {
			t.Fatal(err)
		}
		wantIn(t, "written as a blob", t.tier, img)
		synctest.Wait()
		if err := t.near.Mem.Delete(t.Context(), "a", asBlob.Info.Digest); err != nil {
			t.Fatal(err)
		}
		s, err := t.tier.Spool(t.Context(), "a", asBlob.Info)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.WriteAt(asBlob.Bytes, 0); err != nil {
			t.Error(err)
		}
		if err := s.Commit(t.Context(), asBlob.Info); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		wantIn(t, "spooled as a blob", t.tier, img)
	})
}

// What other processes do is seen after a moment, and what they deleted is not taken for
// there when a manifest relies on it.
func TestOtherProcessesAreSeen(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, img := t.Context(), newImage("a", "one", 2)
		other, _ := t.elsewhere()
		if _, err := t.tier.Stat(ctx, "a", img.manifest.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		putImage(t, other, img)
		time.Sleep(time.Second)
		if _, err := t.tier.Stat(ctx, "a", img.manifest.Info.Digest); err != nil {
			t.Errorf("after a second: %v", err)
		}
		wantIn(t, "here", t.tier, img)
		synctest.Wait()
		for _, p := range img.all() {
			if err := other.Delete(ctx, "a", p.Info.Digest); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if err := putPiece(ctx, t.tier, img.manifest); err != nil {
			t.Fatal(err)
		}
		wantIn(t, "far", t.far.Mem, img)
	})
}

// Forget gives up what another process has deleted, and nothing that Far has.
func TestForgetWhatWasDeletedElsewhere(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, one, two := t.Context(), newImage("a", "one", 2), newImage("a", "two", 2)
		putImage(t, t.tier, one)
		putImage(t, t.tier, two)
		for _, name := range []string{"v1", "v2"} {
			if err := t.tier.SetTag(ctx, "a", name, one.tag()); err != nil {
				t.Fatal(err)
			}
		}
		d := one.manifest.Info.Digest
		if err := t.tier.Forget(ctx, "a", d.String()); err != nil {
			t.Error(err)
		}
		if err := t.tier.Forget(ctx, "a", "v1"); err != nil {
			t.Error(err)
		}
		if _, err := t.near.Mem.Stat(ctx, "a", d); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the manifest is near: %v", err)
		}
		if _, err := t.near.Mem.Tag(ctx, "a", "v1"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the tag is near: %v", err)
		}
		if _, err := t.near.Mem.Tag(ctx, "a", "v2"); err != nil {
			t.Errorf("another tag: %v", err)
		}
		wantIn(t, "here", t.tier, one) // Far still has it
		if err := t.tier.Forget(ctx, "a", ""); err != nil {
			t.Error(err)
		}
		for name, err := range t.near.Mem.Repositories(ctx, "") {
			t.Errorf("near there is %s, %v", name, err)
		}
		for b, err := range t.near.Mem.Blobs(ctx, "a") {
			t.Errorf("near there is %s, %v", b.Digest, err)
		}
		wantIn(t, "here", t.tier, one)
		wantIn(t, "here", t.tier, two)
		if err := t.tier.Forget(ctx, "../a", ""); err == nil {
			t.Error("a repository that is none")
		}
	})
}

// The lists that deletions go by have what either store has.
func TestListsForDeletionsHaveBothStores(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, img := t.Context(), newImage("a", "one", 4)
		putImage(t, t.tier, img)
		for i, p := range img.blobs { // some are near alone, some far
			s := t.far.Mem
			if i%2 == 0 {
				s = t.near.Mem
			}
			if err := s.Delete(ctx, "a", p.Info.Digest); err != nil {
				t.Fatal(err)
			}
		}
		if err := t.near.Mem.Delete(ctx, "a", img.manifest.Info.Digest); err != nil {
			t.Fatal(err)
		}
		last := ""
		n := 0
		for b, err := range t.tier.Blobs(ctx, "a") {
			if err != nil || b.Digest.String() <= last {
				t.Errorf("%s after %s: %v", b.Digest, last, err)
			}
			last = b.Digest.String()
			n++
		}
		if n != len(img.blobs) {
			t.Errorf("%d blobs of %d", n, len(img.blobs))
		}
		n = 0
		for _, err := range t.tier.Manifests(ctx, "a") {
			if err != nil {
				t.Error(err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("%d manifests", n)
		}
		for range t.tier.Blobs(ctx, "a") {
			break // must be allowed
		}
	})
}
