package store_test

import (
	"errors"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

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
	for _, at := range []string{"Open", "answer", "Commit", "Delete"} {
		t.Run(at, func(t *testing.T) {
			inTier(t, func(t *tierTest) {
				ctx, img := t.Context(), newImage("a", "one", 2)
				other, _ := t.elsewhere()
				putImage(t, other, img)
				small, blob := img.blobs[0], img.blobs[1]
				hold := func(ctxType) error { time.Sleep(time.Second); return nil }
				switch at {
				case "Open":
					t.far.meets(hold, "Open")
				case "answer":
					t.far.arrive(time.Second, "Open")
				case "Commit":
					t.near.meets(hold, "Commit")
				case "Delete":
					t.far.meets(hold, "Delete")
				}
				var all sync.WaitGroup
				for _, p := range []store.Piece{blob, small, img.manifest} {
					all.Go(func() {
						if at == "Delete" { // it begins before the reader
							time.Sleep(500 * time.Millisecond)
						}
						_ = readsPiece(ctx, t.tier, p)
					})
					all.Go(func() {
						if at != "Delete" {
							time.Sleep(500 * time.Millisecond)
						}
						if err := t.tier.Delete(ctx, "a", p.Info.Digest); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				time.Sleep(time.Minute)
				for _, p := range []store.Piece{blob, small, img.manifest} {
					if _, err := t.near.Mem.Stat(ctx, "a", p.Info.Digest); !errors.Is(err, store.ErrNotFound) {
						t.Errorf("%d bytes of %s are near: %v", p.Info.Size, p.Info.MediaType, err)
					}
					if has, err := t.tier.Backed(ctx, "a", p.Info.Digest); has || err != nil {
						t.Errorf("%d bytes of %s count as far: %v", p.Info.Size, p.Info.MediaType, err)
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

// A manifest that another process has deleted far may be written as a blob.
func TestManifestThatWasDeletedElsewhereMayBeABlob(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, img := t.Context(), newImage("a", "one", 1)
		other, _ := t.elsewhere()
		putImage(t, other, img)
		if _, err := t.tier.Stat(ctx, "a", img.manifest.Info.Digest); err != nil {
			t.Fatal(err)
		}
		if err := other.Delete(ctx, "a", img.manifest.Info.Digest); err != nil {
			t.Fatal(err)
		}
		blob := img.manifest
		blob.Info.MediaType = "application/octet-stream"
		if err := putPiece(ctx, t.tier, blob); err != nil {
			t.Fatal(err)
		}
		if err := readsPiece(ctx, t.near.Mem, blob); err != nil {
			t.Error(err)
		}
		t.far.take()
		if err := putPiece(ctx, t.tier, blob); err != nil {
			t.Error(err)
		}
		t.asked(0, "a manifest that is known to be gone")
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
		synctest.Wait()
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

// Whatever fails while something is deleted, what is near then is far.
func TestDeletionThatFails(t *testing.T) {
	for _, fails := range []string{"near", "the answer of far"} {
		inTier(t, func(t *tierTest) {
			ctx, img := t.Context(), newImage("a", "one", 1)
			d := img.manifest.Info.Digest
			putImage(t, t.tier, img)
			if err := t.tier.SetTag(ctx, "a", "v1", img.tag()); err != nil {
				t.Fatal(err)
			}
			if fails == "near" {
				t.near.fails("Delete")
			} else {
				t.far.meets(func(ctx ctxType) error {
					return errors.Join(errSpy, t.far.Mem.DeleteTag(ctx, "a", "v1"), t.far.Mem.Delete(ctx, "a", d))
				}, "Delete")
			}
			if err := t.tier.DeleteTag(ctx, "a", "v1"); !errors.Is(err, errSpy) {
				t.Errorf("%s fails: %v", fails, err)
			}
			if err := t.tier.Delete(ctx, "a", d); !errors.Is(err, errSpy) {
				t.Errorf("%s fails: %v", fails, err)
			}
			_, near := t.near.Mem.Stat(ctx, "a", d)
			_, far := t.far.Mem.Stat(ctx, "a", d)
			_, nearTag := t.near.Mem.Tag(ctx, "a", "v1")
			_, farTag := t.far.Mem.Tag(ctx, "a", "v1")
			if near == nil && far != nil || nearTag == nil && farTag != nil {
				t.Errorf("%s fails: near %v and %v, far %v and %v", fails, near, nearTag, far, farTag)
			}
			if has, err := t.tier.Backed(ctx, "a", d); has != (far == nil) || err != nil {
				t.Errorf("%s fails: it counts as far: %v, %v", fails, has, err)
			}
		})
	}
}

// What comes near while something else is deleted stays.
func TestDeleteOfSomethingElseMeanwhile(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		putImage(t, t.far.Mem, img)
		t.near.meets(func(ctxType) error { time.Sleep(time.Second); return nil }, "Commit")
		wantIn(t, "here", t.tier, img)
		if err := t.tier.DeleteTag(t.Context(), "a", "v1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wantIn(t, "near", t.near.Mem, img)
	})
}

// What was deleted elsewhere while it comes near does not stay, if that is told.
func TestForgetWhileItComesNear(t *testing.T) {
	img := newImage("a", "one", 2)
	for name, reference := range map[string]string{"repository": "", "tag": "v1", "manifest": img.manifest.Info.Digest.String(),
		"small": img.blobs[0].Info.Digest.String(), "large": img.blobs[1].Info.Digest.String()} {
		t.Run(name, func(t *testing.T) {
			inTier(t, func(t *tierTest) {
				ctx := t.Context()
				other, _ := t.elsewhere()
				putImage(t, other, img)
				if err := other.SetTag(ctx, "a", "v1", img.tag()); err != nil {
					t.Fatal(err)
				}
				t.near.meets(func(ctxType) error { time.Sleep(time.Second); return nil }, "Commit", "SetTag")
				t.far.arrive(500*time.Millisecond, "")
				for _, p := range img.all() {
					go func() { _ = readsPiece(ctx, t.tier, p) }()
				}
				go func() { _, _ = t.tier.Tag(ctx, "a", "v1") }()
				synctest.Wait()
				t.far.arrive(0, "")
				err := t.far.Mem.DeleteTag(ctx, "a", "v1")
				for _, p := range img.all() {
					err = errors.Join(err, t.far.Mem.Delete(ctx, "a", p.Info.Digest))
				}
				if err := errors.Join(err, t.tier.Forget(ctx, "a", reference)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				for name, err := range t.near.Mem.Repositories(ctx, "") {
					t.Errorf("near there is %s, %v", name, err)
				}
			})
		})
	}
}

// The lists that deletions go by have what either store has.
func TestListsForDeletionsHaveBothStores(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, img := t.Context(), newImage("a", "one", 9)
		putImage(t, t.tier, img)
		for i, p := range img.blobs { // some are near alone, some far alone, and some both
			if i%3 == 2 {
				continue
			}
			if err := []*store.Mem{t.near.Mem, t.far.Mem}[i%3].Delete(ctx, "a", p.Info.Digest); err != nil {
				t.Fatal(err)
			}
		}
		listed := func(list iter.Seq2[store.Info, error], most int) (n int) {
			last := ""
			for b, err := range list {
				if err != nil || b.Digest.String() <= last {
					t.Errorf("%s after %s: %v", b.Digest, last, err)
				}
				last = b.Digest.String()
				if n++; n == most {
					break // must be allowed
				}
			}
			return n
		}
		for most := range len(img.blobs) {
			listed(t.tier.Blobs(ctx, "a"), most+1)
		}
		if n := listed(t.tier.Blobs(ctx, "a"), 0); n != len(img.blobs) {
			t.Errorf("%d blobs of %d", n, len(img.blobs))
		}
		for name, lacks := range map[string]*store.Mem{"both": new(store.Mem), "far": t.near.Mem, "near": t.far.Mem} {
			if name == "near" {
				putImage(t, t.near.Mem, img)
			}
			if err := lacks.Delete(ctx, "a", img.manifest.Info.Digest); err != nil {
				t.Fatal(err)
			}
			if n := listed(t.tier.Manifests(ctx, "a"), 0); n != 1 {
				t.Errorf("%d manifests, of which %s has one", n, name)
			}
			putImage(t, lacks, img)
		}
	})
}
