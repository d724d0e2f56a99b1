package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// Readers that come at the same moment have one download, too, and what is small is brought
// near once for all of them.
func TestReadersAtTheSameMoment(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		img, _ := large()
		t.far.arrive(10*time.Millisecond, "Open")
		t.near.meets(func(context.Context) error { time.Sleep(100 * time.Millisecond); return nil }, "Commit")
		begun := time.Now()
		var all sync.WaitGroup
		for range 10 {
			for _, p := range []store.Piece{layer, img.blobs[0]} {
				all.Go(func() {
					if err := readsPiece(t.Context(), t.tier, p); err != nil {
						t.Error(err)
					}
				})
			}
		}
		all.Wait()
		if took := time.Since(begun); took > 1500*time.Millisecond {
			t.Errorf("all took %v", took)
		}
		if n := far.reads.Load(); n > 150 { // 128 of the layer
			t.Errorf("far was read %d times", n)
		}
		time.Sleep(time.Minute)
		if n := count(t.near.take(), "Commit "+short(img.blobs[0].Info.Digest)); n != 1 {
			t.Errorf("what is small came near %d times", n)
		}
	})
}

// Little comes near at once, and not all of a crowd waits for it. What does not come is read
// nevertheless.
func TestFewComeNearAtOnce(t *testing.T) {
	inTier(t, func(t *tierTest) {
		var contents [][]byte
		for i := range 300 {
			contents = append(contents, fmt.Append(nil, "small ", i))
		}
		img := imageOf("a", contents)
		for _, p := range img.blobs {
			if err := putPiece(t.Context(), t.far.Mem, p); err != nil {
				t.Fatal(err)
			}
		}
		var now, most, n atomic.Int64
		t.near.meets(func(context.Context) error {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			n.Add(1)
			return nil
		}, "Create")
		for range 2 {
			for _, p := range img.blobs {
				if err := readsPiece(t.Context(), t.tier, p); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Hour)
		if most.Load() != 4 || n.Load() != 256 {
			t.Errorf("%d of 300 came near, %d at once", n.Load(), most.Load())
		}
		for _, p := range img.blobs {
			if err := readsPiece(t.Context(), t.tier, p); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		if n.Load() != 300 {
			t.Errorf("%d of 300 are near", n.Load())
		}
	})
}

// A manifest that another process has deleted is given up near, and one that nobody can tell
// of is not.
func TestManifestIsLookedUpBehindItsReader(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		putImage(t, t.tier, img)
		t.restart()
		t.far.fails("Stat")
		wantIn(t, "while far fails", t.tier, img)
		synctest.Wait()
		wantIn(t, "near", t.near.Mem, img)
		t.far.works()
		wantIn(t, "when it is back", t.tier, img)
		synctest.Wait()
		wantIn(t, "near", t.near.Mem, img)
		if err := t.far.Mem.Delete(t.Context(), "a", img.manifest.Info.Digest); err != nil {
			t.Fatal(err)
		}
		wantIn(t, "within 5 minutes", t.tier, img)
		time.Sleep(5 * time.Minute)
		wantIn(t, "for the last time", t.tier, img)
		synctest.Wait()
		if _, _, err := t.tier.Open(t.Context(), "a", img.manifest.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("it is still served: %v", err)
		}
		if _, err := t.near.Mem.Stat(t.Context(), "a", img.manifest.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("it is still near: %v", err)
		}
	})
}

// Close ends downloads, waits for what ends near, and leaves nothing of what was deleted.
func TestCloseEndsWhatComesNear(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		img, _ := large()
		_, r, err := t.tier.Open(t.Context(), "a", layer.Info.Digest)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		t.near.meets(func(context.Context) error { time.Sleep(200 * time.Millisecond); return nil }, "Commit")
		if err := readsPiece(t.Context(), t.tier, img.blobs[0]); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		begun := time.Now()
		if err := t.tier.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took < 150*time.Millisecond || took > 300*time.Millisecond {
			t.Errorf("Close took %v", took)
		}
		if data, err := io.ReadAll(r); err != nil || len(data) != len(layer.Bytes) {
			t.Errorf("who reads: %d bytes, %v", len(data), err)
		}
	})
	inTier(t, func(t *tierTest) {
		small := newImage("a", "one", 0).blobs[0]
		if err := putPiece(t.Context(), t.far.Mem, small); err != nil {
			t.Fatal(err)
		}
		t.near.meets(func(context.Context) error { time.Sleep(time.Second); return nil }, "Commit")
		if err := readsPiece(t.Context(), t.tier, small); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if err := t.tier.Delete(t.Context(), "a", small.Info.Digest); err != nil {
			t.Error(err)
		}
		t.far.hangs("Stat")
		time.Sleep(1500 * time.Millisecond)
		if calls := strings.Join(t.far.take(), ", "); !strings.HasSuffix(calls, "Stat "+short(small.Info.Digest)) {
			t.Errorf("it is not looked up again: %s", calls)
		}
		if err := t.tier.Close(); err != nil {
			t.Error(err)
		}
		if _, err := t.near.Mem.Stat(t.Context(), "a", small.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("what was deleted is near: %v", err)
		}
	})
}
