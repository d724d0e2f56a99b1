package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// While Far fails or hangs, what is near is served, the rest is unknown, and only the first
// question waits.
func TestTierWhileFarIsAway(t *testing.T) {
	for name, away := range map[string]func(*spy, ...string){"fails": (*spy).fails, "hangs": (*spy).hangs} {
		t.Run(name, func(t *testing.T) {
			inTier(t, func(t *tierTest) {
				ctx, here, cold := t.Context(), newImage("a", "here", 2), newImage("a", "cold", 2)
				putImage(t, t.tier, here)
				other, _ := t.elsewhere()
				putImage(t, other, cold)
				if err := t.tier.SetTag(ctx, "a", "v1", here.tag()); err != nil {
					t.Fatal(err)
				}
				away(t.far, "")
				begun := time.Now()
				for range 20 {
					wantIn(t, "near", t.tier, here)
					if tag, err := t.tier.Tag(ctx, "a", "v1"); err != nil || tag.Digest != here.manifest.Info.Digest {
						t.Errorf("the tag near: %v, %v", tag.Digest, err)
					}
					for _, p := range cold.all() {
						_, err := t.tier.Stat(ctx, "a", p.Info.Digest)
						_, _, oerr := t.tier.Open(ctx, "a", p.Info.Digest)
						aerr := t.tier.Adopt(ctx, "b", p.Info, nil)
						for _, err := range []error{err, oerr, aerr} {
							if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotFound) {
								t.Fatalf("what only Far may have: %v", err)
							}
						}
					}
					if _, err := t.tier.Tag(ctx, "a", "v2"); !errors.Is(err, store.ErrUnavailable) {
						t.Errorf("a tag that is not near: %v", err)
					}
				}
				if took := time.Since(begun); took > 2*time.Second {
					t.Errorf("the calls took %v, more than Patience", took)
				}
				if n := len(t.far.take()); n > 50 {
					t.Errorf("far was called %d times", n)
				}
				fresh := newImage("a", "fresh", 1)
				for _, p := range fresh.blobs {
					if err := putPiece(ctx, t.tier, p); err != nil {
						t.Errorf("a blob: %v", err)
					}
				}
				if err := putPiece(ctx, t.tier, fresh.manifest); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("the commit of a manifest: %v", err)
				}
				if err := t.tier.SetTag(ctx, "a", "v1", cold.tag()); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("a tag moves: %v", err)
				}
				for _, err := range t.tier.TagNames(ctx, "a", "") {
					if !errors.Is(err, store.ErrUnavailable) {
						t.Errorf("a list that Far does not give: %v", err)
					}
				}
				time.Sleep(10 * time.Minute)
				t.far.works()
				time.Sleep(10 * time.Second)
				wantIn(t, "cold", t.tier, cold)
				if err := putPiece(ctx, t.tier, fresh.manifest); err != nil {
					t.Errorf("the next try: %v", err)
				}
				wantIn(t, "far", t.far.Mem, fresh)
			})
		})
	}
}

// An answer that says no is an answer, and a caller who leaves proves nothing.
func TestWhatIsNoOutageOfFar(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 2)
		other, _ := t.elsewhere()
		putImage(t, other, img)
		t.far.hangs("Open")
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if _, _, err := t.tier.Open(ctx, "a", img.manifest.Info.Digest); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("its caller has left: %v", err)
			}
			cancel()
		}
		t.far.works()
		for _, repo := range []string{"", "../a", "b"} {
			for range 5 {
				_, err := t.tier.Stat(t.Context(), repo, img.manifest.Info.Digest)
				if err == nil || errors.Is(err, store.ErrUnavailable) {
					t.Errorf("in %q: %v", repo, err)
				}
				for _, err := range t.tier.TagNames(t.Context(), repo, "") {
					if err == nil || errors.Is(err, store.ErrUnavailable) {
						t.Errorf("in %q: %v", repo, err)
					}
				}
			}
		}
		if err := readsPiece(t.Context(), t.tier, img.manifest); err != nil {
			t.Errorf("after that: %v", err)
		}
		refused := errors.New("refused")
		for range 5 { // a proof may take longer than an answer of Far
			err := t.tier.Adopt(t.Context(), "b", img.blobs[1].Info, func(context.Context, io.ReadSeeker) error {
				time.Sleep(time.Minute)
				return refused
			})
			if err != refused {
				t.Errorf("a slow proof: %v", err)
			}
		}
		wantIn(t, "after that", t.tier, img)
	})
}

// A single failure bars nothing.
func TestOneFailureOfFarIsItsOwn(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 2)
		other, _ := t.elsewhere()
		putImage(t, other, img)
		bad := img.blobs[1].Info.Digest
		t.far.fails("Open " + short(bad))
		for range 5 {
			if _, _, err := t.tier.Open(t.Context(), "a", bad); !errors.Is(err, store.ErrUnavailable) {
				t.Error(err)
			}
			if err := readsPiece(t.Context(), t.tier, img.blobs[2]); err != nil {
				t.Errorf("another blob: %v", err)
			}
			if err := readsPiece(t.Context(), t.tier, img.manifest); err != nil {
				t.Errorf("the manifest: %v", err)
			}
			synctest.Wait()
			if err := t.near.Mem.Delete(t.Context(), "a", img.blobs[2].Info.Digest); err != nil {
				t.Error(err)
			}
		}
	})
}

// Half of a body is not near, and its reader is told.
func TestFarBreaksOffInTheMiddle(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 2)
		other, _ := t.elsewhere()
		putImage(t, other, img)
		tier := newTier(t, t.near, brokenStore{t.far})
		_, r, err := tier.Open(t.Context(), "a", img.blobs[1].Info.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a body that stops: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if _, err := t.near.Mem.Stat(t.Context(), "a", img.blobs[1].Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("half of it is near: %v", err)
		}
	})
}

// brokenStore opens readers that break off.
type brokenStore struct{ *spy }

func (s brokenStore) Open(ctx context.Context, repo string, d digestType) (store.Info, io.ReadSeekCloser, error) {
	info, r, err := s.spy.Open(ctx, repo, d)
	if err != nil {
		return info, nil, err
	}
	return info, &brokenReader{ReadSeekCloser: r}, nil
}

type brokenReader struct {
	io.ReadSeekCloser
	n int
}

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.n++; r.n > 1 {
		time.Sleep(time.Hour)
		return 0, io.ErrUnexpectedEOF
	}
	return r.ReadSeekCloser.Read(p[:min(len(p), 1000)])
}

// A Near that fails makes reads go far, and a copy ends nevertheless.
func TestTierWhileNearFails(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 2)
		putImage(t, t.tier, img)
		t.near.fails("Stat", "Open", "Create", "Tag", "SetTag")
		wantIn(t, "far", t.tier, img)
		if _, err := t.tier.Stat(t.Context(), "a", img.manifest.Info.Digest); err != nil {
			t.Errorf("Stat: %v", err)
		}
		for range 2 {
			if _, err := t.tier.Stat(t.Context(), "a", newImage("a", "two", 1).manifest.Info.Digest); !errors.Is(err, errSpy) {
				t.Errorf("what Far lacks may be near: %v", err)
			}
		}
		if err := t.tier.SetTag(t.Context(), "a", "v1", img.tag()); err != nil {
			t.Errorf("Far decides about tags: %v", err)
		}
		if tag, err := t.tier.Tag(t.Context(), "a", "v1"); err != nil || tag.Digest != img.manifest.Info.Digest {
			t.Errorf("the tag: %v, %v", tag.Digest, err)
		}
		t.near.works()
		second := newImage("a", "two", 2)
		for _, p := range second.blobs {
			if err := putPiece(t.Context(), t.tier, p); err != nil {
				t.Fatal(err)
			}
		}
		t.near.meets(func(context.Context) error { return store.ErrFull }, "Create")
		if err := putPiece(t.Context(), t.tier, second.manifest); err != nil {
			t.Errorf("a near store that is full: %v", err)
		}
		wantIn(t, "far", t.tier, second)
		// An older link must not hide the new one.
		moved := second.manifest
		t.near.works()
		if err := putPiece(t.Context(), t.tier, moved); err != nil {
			t.Error(err)
		}
		moved.Info.Source = "https://other.example.com/team/api"
		t.near.fails("Create")
		if err := putPiece(t.Context(), t.tier, moved); err == nil {
			t.Error("near there is still the link of another source, and nobody knows")
		}
	})
}

// What is damaged near comes from Far, and is near again.
func TestDamageNearHealsFromFar(t *testing.T) {
	path := t.TempDir()
	near, far := openDir(t, path), new(store.Mem)
	tier := newPatientTier(t, near, far)
	img := imageOf("a", [][]byte{[]byte("{}"), bytes.Repeat([]byte("0123456789abcdef"), 4<<10)})
	putImage(t, tier, img)
	d := img.blobs[1].Info.Digest
	file := filepath.Join(path, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
	if err := os.Truncate(file, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Stat(t.Context(), "a", d); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("the damage is not seen: %v", err)
	}
	wantIn(t, "a damaged near store", tier, img)
	if err := tier.Close(); err != nil { // which waits for what is brought
		t.Fatal(err)
	}
	tier = newPatientTier(t, near, far)
	eventually(t, func() bool {
		_ = readsPiece(t.Context(), tier, img.blobs[1])
		return readsPiece(t.Context(), near, img.blobs[1]) == nil
	})
}

// Wrong bytes of Far are never near, and a manifest of wrong bytes is not there.
func TestWrongBytesOfFarStayThere(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 2)
		other, _ := t.elsewhere()
		putImage(t, other, img)
		t.far.bytes = func(digestType) []byte { return []byte("wrong") }
		if _, _, err := t.tier.Open(t.Context(), "a", img.manifest.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a manifest of wrong bytes: %v", err)
		}
		if _, _, err := t.tier.Open(t.Context(), "a", img.blobs[0].Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a small blob of wrong bytes: %v", err)
		}
		if _, r, err := t.tier.Open(t.Context(), "a", img.blobs[1].Info.Digest); err == nil {
			_, _ = io.Copy(io.Discard, r)
			r.Close()
		}
		synctest.Wait()
		for _, p := range img.all() {
			if _, err := t.near.Mem.Stat(t.Context(), "a", p.Info.Digest); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s is near: %v", p.Info.MediaType, err)
			}
		}
	})
}

// Wrong bytes of Near never go far. They are given up, so that the next try brings them
// again.
func TestWrongBytesOfNearStayThere(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 2)
		for _, p := range img.blobs {
			if err := putPiece(t.Context(), t.tier, p); err != nil {
				t.Fatal(err)
			}
		}
		d := img.blobs[1].Info.Digest
		wrong := bytes.Repeat([]byte("x"), len(img.blobs[1].Bytes))
		t.near.bytes = func(asked digestType) []byte {
			if asked == d {
				return wrong
			}
			return nil
		}
		if err := putPiece(t.Context(), t.tier, img.manifest); err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a blob that is damaged near: %v", err)
		}
		for _, s := range []store.Store{t.near.Mem, t.far.Mem} {
			if _, err := s.Stat(t.Context(), "a", d); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("it is still there: %v", err)
			}
		}
		if _, err := t.far.Mem.Stat(t.Context(), "a", img.manifest.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the manifest is far: %v", err)
		}
		t.near.bytes = nil
		putImage(t, t.tier, img)
		wantIn(t, "far", t.far.Mem, img)
	})
}

// While one question tries a Far that has failed, others wait for it: of a copy, which asks
// several at once, all succeed when Far is back.
func TestQuestionsAtOnceAfterAnOutage(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "back", 4)
		other, _ := t.elsewhere()
		putImage(t, other, img)
		t.far.fails("")
		for range 5 {
			if _, err := t.tier.Stat(t.Context(), "a", img.manifest.Info.Digest); !errors.Is(err, store.ErrUnavailable) {
				t.Fatalf("a far store that fails: %v", err)
			}
		}
		t.far.meets(func(context.Context) error { // it takes its time
			time.Sleep(10 * time.Millisecond)
			return nil
		}, "")
		time.Sleep(time.Minute)
		var all sync.WaitGroup
		for _, p := range img.all() {
			all.Go(func() {
				if _, err := t.tier.Stat(t.Context(), "a", p.Info.Digest); err != nil {
					t.Errorf("one of several questions: %v", err)
				}
			})
		}
		all.Wait()
	})
}

// What another process has brought is seen at once if it says so.
func TestArrivalIsSeen(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "new", 1)
		if _, err := t.tier.Stat(t.Context(), "a", img.manifest.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		other, _ := t.elsewhere()
		putImage(t, other, img)
		t.tier.Arrived("a", img.manifest.Info.Digest)
		if _, err := t.tier.Stat(t.Context(), "a", img.manifest.Info.Digest); err != nil {
			t.Error(err)
		}
	})
}
