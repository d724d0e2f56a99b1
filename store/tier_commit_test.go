package store_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
)

// emptyIndex is a manifest that names nothing.
func emptyIndex() store.Piece {
	data := []byte(`{"manifests":[]}`)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return store.Piece{Repo: "a", Info: store.Info{Descriptor: desc, Source: tierSource}, Bytes: data}
}

// A manifest that Far has and Near did not take is stored, unless Near has, or may have,
// something else in its place.
func TestManifestThatNearDoesNotTake(t *testing.T) {
	p := emptyIndex()
	blob, moved := p, p
	blob.Info.MediaType = "application/octet-stream"
	moved.Info.Source += "/other"
	for _, c := range []struct {
		name   string
		before *store.Piece
		fails  []string
		stored bool
	}{
		{"nothing", nil, []string{"Create"}, true},
		{"the same", &p, []string{"Create"}, true},
		{"a blob", &blob, []string{"Create"}, false},
		{"of another source", &moved, []string{"Create"}, false},
		{"nobody knows", nil, []string{"Create", "Stat"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inTier(t, func(t *tierTest) {
				if c.before != nil {
					if err := putPiece(t.Context(), t.near.Mem, *c.before); err != nil {
						t.Fatal(err)
					}
				}
				t.near.fails(c.fails...)
				if err := putPiece(t.Context(), t.tier, p); (err == nil) != c.stored || err != nil && !errors.Is(err, errSpy) {
					t.Error(err)
				}
			})
		})
	}
}

// The writer of a manifest is as that of a blob: what is wrong is refused before Far is asked,
// and nothing can be written after the end.
func TestWriterOfAManifest(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, p := t.Context(), emptyIndex()
		for _, repo := range []string{"", "../a", "A"} {
			if _, err := t.tier.Create(ctx, repo, p.Info); err == nil {
				t.Errorf("the repository %q", repo)
			}
		}
		for _, most := range []int{5, len(p.Bytes) - 1} {
			w, err := t.tier.Create(ctx, "a", p.Info)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(p.Bytes[:most]); err != nil {
				t.Error(err)
			}
			if err := w.Commit(ctx); !errors.Is(err, store.ErrSize) {
				t.Errorf("%d of %d bytes: %v", most, len(p.Bytes), err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
		t.asked(0, "what cannot be a manifest")
		for _, commits := range []bool{true, false} {
			w, err := t.tier.Create(ctx, "a", p.Info)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(p.Bytes); err != nil {
				t.Error(err)
			}
			if commits {
				err = w.Commit(ctx)
			} else {
				err = w.Close()
			}
			if err != nil {
				t.Error(err)
			}
			if _, err := w.Write(nil); err == nil {
				t.Error("it can be written after its end")
			}
			if err := w.Commit(ctx); err == nil {
				t.Error("it can be committed after its end")
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// A blob that Near cannot look up, or read, is not taken for missing, and says nothing about
// Far.
func TestCommitWhileNearFails(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		for _, p := range img.blobs {
			if err := putPiece(t.Context(), t.tier, p); err != nil {
				t.Fatal(err)
			}
		}
		for _, call := range []string{"Stat", "Open"} {
			t.near.fails(call + " " + short(img.blobs[1].Info.Digest))
			for range 5 {
				err := putPiece(t.Context(), t.tier, img.manifest)
				if call == "Stat" && !errors.Is(err, errSpy) || err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%s fails: %v", call, err)
				}
			}
		}
		t.near.meets(func(context.Context) error { return store.ErrNotFound }, "Open") // evicted in between
		if err := putPiece(t.Context(), t.tier, img.manifest); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("a blob that has just gone: %v", err)
		}
		t.near.works()
		tier := newTier(t, brokenStore{t.near}, t.far)
		if err := putPiece(t.Context(), tier, img.manifest); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a blob that cannot be read to its end: %v", err)
		}
		if err := putPiece(t.Context(), t.tier, img.manifest); err != nil {
			t.Errorf("after that: %v", err)
		}
	})
}

// What Far has in another size is sent again.
func TestBlobOfAnotherSizeFarIsSentAgain(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		layer := "Adopt " + short(img.blobs[1].Info.Digest)
		t.far.meets(func(context.Context) error { return store.ErrSize }, layer)
		putImage(t, t.tier, img)
		wantIn(t, "far", t.far.Mem, img)
	})
}

// What is linked far is not linked again.
func TestCommitOfWhatIsFar(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 3)
		putImage(t, t.tier, img)
		t.restart()
		if err := putPiece(t.Context(), t.tier, img.manifest); err != nil {
			t.Fatal(err)
		}
		if n := t.far.adopted.Load(); n != 0 {
			t.Errorf("%d blobs were linked again", n)
		}
	})
}

// A layer that Far has as a manifest stays one, although Near has it as a blob.
func TestLayerThatIsAManifestFar(t *testing.T) {
	inTier(t, func(t *tierTest) {
		p := emptyIndex()
		other, _ := t.elsewhere()
		if err := putPiece(t.Context(), other, p); err != nil {
			t.Fatal(err)
		}
		blob := p
		blob.Info.MediaType = "application/octet-stream"
		blob.Info.Source += "/other" // whose origin is the same
		img := imageOf("a", [][]byte{[]byte("{}"), p.Bytes})
		img.blobs[1] = blob
		putImage(t, t.tier, img)
		t.far.take()
		if err := putPiece(t.Context(), t.tier, img.manifest); err != nil {
			t.Fatal(err)
		}
		t.asked(2, "once more: its blobs are known to be there")
		if err := t.near.Mem.Delete(t.Context(), "a", p.Info.Digest); err != nil {
			t.Fatal(err)
		}
		if err := putPiece(t.Context(), t.tier, blob); err != nil {
			t.Fatal(err)
		}
		if info, err := t.tier.Stat(t.Context(), "a", p.Info.Digest); err != nil || !info.IsManifest() {
			t.Errorf("it is %+v: %v", info, err)
		}
	})
}

// A blob that comes from another source now has that one far, too.
func TestBlobOfAnotherSource(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		putImage(t, t.tier, img)
		moved := newImage("a", "one", 1)
		for i := range moved.blobs {
			moved.blobs[i].Info.Source += "/other"
		}
		moved.manifest.Info.Source += "/other"
		putImage(t, t.tier, moved)
		wantIn(t, "far", t.far.Mem, moved)
	})
}

// A commit does not wait for another one whose blobs Far is known to have.
func TestCommitBesideAnother(t *testing.T) {
	inTier(t, func(t *tierTest) {
		one, other := newImage("a", "one", 1), newImage("b", "one", 1)
		putImage(t, t.tier, one)
		for _, p := range other.blobs {
			if err := putPiece(t.Context(), t.tier, p); err != nil {
				t.Fatal(err)
			}
		}
		t.far.meets(func(context.Context) error { time.Sleep(10 * time.Second); return nil }, "Adopt")
		var all sync.WaitGroup
		all.Go(func() {
			if err := putPiece(t.Context(), t.tier, other.manifest); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		begun := time.Now()
		if err := putPiece(t.Context(), t.tier, one.manifest); err != nil || time.Since(begun) > 0 {
			t.Errorf("it took %v: %v", time.Since(begun), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := putPiece(ctx, t.tier, other.manifest); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("who does not wait for the other: after %v: %v", time.Since(begun), err)
		}
		all.Wait()
	})
}

// Small writes may take longer than an answer, and large ones as long as bytes move.
func TestWritesToASlowFar(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		far := &slowStore{t.far, 40 * time.Second}
		tier := newTier(t, t.near, far)
		t.far.meets(func(ctx context.Context) error { time.Sleep(5 * time.Second); return ctx.Err() }, "")
		putImage(t, tier, img)
		if err := tier.SetTag(t.Context(), "a", "v1", img.tag()); err != nil {
			t.Error(err)
		}
		if err := tier.DeleteTag(t.Context(), "a", "v1"); err != nil {
			t.Error(err)
		}
		if err := tier.Delete(t.Context(), "a", img.manifest.Info.Digest); err != nil {
			t.Error(err)
		}
		far.pause = 2 * time.Minute       // longer than no byte may move
		second := newImage("a", "two", 0) // of which nothing has moved before
		for _, p := range second.blobs {
			if err := putPiece(t.Context(), tier, p); err != nil {
				t.Fatal(err)
			}
		}
		if err := putPiece(t.Context(), tier, second.manifest); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a transfer that stands still: %v", err)
		}
	})
}

// slowStore takes a pause before each write of a blob.
type slowStore struct {
	*spy
	pause time.Duration
}

func (s *slowStore) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	w, err := s.spy.Create(ctx, repo, want)
	if want.IsManifest() {
		return w, err
	}
	return slowWriter{w, s, ctx}, err
}

type slowWriter struct {
	store.Writer
	s   *slowStore
	ctx context.Context
}

func (w slowWriter) Write(p []byte) (int, error) {
	time.Sleep(w.s.pause)
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}
