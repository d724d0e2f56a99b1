package store_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// What Far refuses it has answered.
func TestRefusalsAreAnswers(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, img, now := t.Context(), newImage("a", "one", 1), time.Now()
		putImage(t, t.far.Mem, img)
		if err := t.tier.SetTag(ctx, "a", "v1", tagOf(img, now)); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := t.tier.SetTag(ctx, "a", "v1", tagOf(img, now.Add(-time.Second))); !errors.Is(err, store.ErrStale) {
				t.Error(err)
			}
		}
		for _, refusal := range []error{store.ErrFull, store.ErrSize, store.ErrStale} {
			t.far.meets(func(context.Context) error { return refusal }, "SetTag", "Adopt")
			for range 5 {
				if err := t.tier.Adopt(ctx, "b", img.blobs[1].Info, nil); !errors.Is(err, refusal) {
					t.Error(err)
				}
			}
			t.far.works()
		}
		wantIn(t, "after that", t.tier, img)
	})
}

// What cannot be a tag is nothing that Far fails at.
func TestWhatIsNoTag(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		for range 5 {
			_, noName := t.tier.Tag(t.Context(), "a", "../v1")
			for _, err := range []error{noName, t.tier.SetTag(t.Context(), "a", "../v1", img.tag()), t.tier.SetTag(t.Context(), "a", "v1", store.Tag{})} {
				if err == nil || errors.Is(err, store.ErrUnavailable) {
					t.Error(err)
				}
			}
		}
		t.asked(0, "no tags")
	})
}

// Bodies that break off make an outage, too.
func TestBodiesThatBreakOffMakeAnOutage(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 4)
		putImage(t, t.far.Mem, img)
		tier := newTier(t, bare{t.near}, brokenStore{t.far})
		var readers []io.Reader
		for _, p := range img.blobs[1:] {
			_, r, err := tier.Open(t.Context(), "a", p.Info.Digest)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			readers = append(readers, r)
		}
		for _, r := range readers {
			if _, err := io.ReadAll(r); !errors.Is(err, store.ErrUnavailable) {
				t.Error(err)
			}
		}
		t.far.take()
		if _, err := tier.Stat(t.Context(), "a", img.manifest.Info.Digest); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("after %d bodies: %v", len(readers), err)
		}
		t.asked(0, "an outage")
	})
}

// After an outage questions are asked at once again, and one that is not answered in time is
// no cancellation.
func TestAfterAnOutage(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		putImage(t, t.far.Mem, img)
		t.outage()
		stat := func(p store.Piece) error {
			_, err := t.tier.Stat(t.Context(), "a", p.Info.Digest)
			return err
		}
		if err := stat(img.manifest); err != nil {
			t.Error(err)
		}
		t.far.meets(func(context.Context) error { time.Sleep(time.Second); return nil }, "Stat")
		begun := time.Now()
		var all sync.WaitGroup
		for _, p := range img.all() {
			all.Go(func() {
				if err := stat(p); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(begun); took != time.Second {
			t.Errorf("they took %v", took)
		}
		t.far.hangs("Stat")
		if err := stat(img.manifest); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.Canceled) {
			t.Errorf("a Far that hangs: %v", err)
		}
	})
}

// A call that waits for the one that tries Far waits no longer than for an answer.
func TestWaiterHasPatience(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		t.outage()
		t.far.hangs("SetTag") // which may take 30 s
		go func() { _ = t.tier.SetTag(t.Context(), "a", "v1", img.tag()) }()
		synctest.Wait()
		begun := time.Now()
		_, err := t.tier.Stat(t.Context(), "a", img.manifest.Info.Digest)
		if !errors.Is(err, store.ErrUnavailable) || time.Since(begun) != 2*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// What was opened outlives the context of the call.
func TestReaderOutlivesItsCall(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		for i, near := range []store.Store{t.near, bare{new(store.Mem)}} {
			ctx, cancel := context.WithCancel(t.Context())
			tier := newTier(t, near, far)
			_, r, err := tier.Open(ctx, "a", layer.Info.Digest)
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			time.Sleep(10 * time.Second)
			if n := far.open.Load(); n != int64(i) { // the first has come near
				t.Errorf("%d readers of Far are open", n)
			}
			if data, err := io.ReadAll(r); err != nil || len(data) != len(layer.Bytes) {
				t.Errorf("%d bytes, %v", len(data), err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if n := far.open.Load(); n != 0 {
				t.Errorf("%d readers of Far are left open", n)
			}
		}
		if err := readsPiece(t.Context(), t.near.Mem, layer); err != nil {
			t.Errorf("near: %v", err)
		}
	})
}
