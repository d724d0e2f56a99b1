package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// pacedStore opens readers that yield 64 KiB each 10 ms, up to a byte at which they break
// off.
type pacedStore struct {
	*spy
	breaks atomic.Int64 // 0: they do not
	hangs  atomic.Bool  // there they wait for an hour first
	reads  atomic.Int64
	open   atomic.Int64
}

func (s *pacedStore) Open(ctx context.Context, repo string, d digestType) (store.Info, io.ReadSeekCloser, error) {
	info, r, err := s.spy.Open(ctx, repo, d)
	if err != nil {
		return info, nil, err
	}
	s.open.Add(1)
	context.AfterFunc(ctx, func() { s.open.Add(-1) })
	return info, &pacedReader{r, s}, nil
}

type pacedReader struct {
	io.ReadSeekCloser
	s *pacedStore
}

func (r *pacedReader) Read(p []byte) (int, error) {
	r.s.reads.Add(1)
	time.Sleep(10 * time.Millisecond)
	at, err := r.Seek(0, io.SeekCurrent)
	most := r.s.breaks.Load()
	if err != nil || most > 0 && at >= most {
		if r.s.hangs.Load() {
			time.Sleep(time.Hour)
		}
		return 0, io.ErrUnexpectedEOF
	}
	if p = p[:min(len(p), 64<<10)]; most > 0 {
		p = p[:min(int64(len(p)), most-at)]
	}
	return r.ReadSeekCloser.Read(p)
}

// large is an image with one large layer.
func large() (tierImage, store.Piece) {
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(i>>16) ^ byte(i*7)
	}
	img := imageOf("a", [][]byte{[]byte("{}"), data})
	return img, img.blobs[1]
}

// inPaced runs a test with a Tier whose Far has a large layer and takes 1.28 s to send it.
func inPaced(t *testing.T, test func(t *tierTest, far *pacedStore, layer store.Piece)) {
	t.Helper()
	inTier(t, func(t *tierTest) {
		img, layer := large()
		far := &pacedStore{spy: t.far}
		putImage(t, far.Mem, img)
		t.tier = newTier(t, t.near, far)
		test(t, far, layer)
	})
}

// One download of Far serves all readers, from the first byte on, and is near then. A
// reader that leaves does not end it.
func TestReadersShareOneDownloadOfFar(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		begun := time.Now()
		_, leaves, err := t.tier.Open(t.Context(), "a", layer.Info.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(leaves, make([]byte, 1000)); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 50*time.Millisecond {
			t.Errorf("the first bytes took %v", took)
		}
		if err := leaves.Close(); err != nil {
			t.Error(err)
		}
		var group sync.WaitGroup
		for i := range 10 {
			group.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				if err := readsPiece(t.Context(), t.tier, layer); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if took := time.Since(begun); took > 1500*time.Millisecond {
			t.Errorf("all took %v", took)
		}
		t.asked(1, "11 readers")
		if err := readsPiece(t.Context(), t.near, layer); err != nil {
			t.Errorf("near: %v", err)
		}
	})
}

// A range far ahead of what has come does not wait for it, and one that is near does.
func TestRangeAheadOfTheDownload(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		for _, c := range []struct {
			offset int64
			asks   int
		}{{6 << 20, 2}, {300 << 10, 0}, {8<<20 - 1000, 0}} {
			begun := time.Now()
			info, r, err := t.tier.Open(t.Context(), "a", layer.Info.Digest)
			if err != nil {
				t.Fatal(err)
			}
			if end, err := r.Seek(0, io.SeekEnd); err != nil || end != info.Size {
				t.Errorf("the end is at %d: %v", end, err)
			}
			if _, err := r.Seek(c.offset, io.SeekStart); err != nil {
				t.Error(err)
			}
			got := make([]byte, 1000)
			if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, layer.Bytes[c.offset:][:1000]) {
				t.Errorf("at %d: other bytes, or %v", c.offset, err)
			}
			if _, err := r.Seek(-500, io.SeekCurrent); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(r, got[:500]); err != nil || !bytes.Equal(got[:500], layer.Bytes[c.offset+500:][:500]) {
				t.Errorf("at %d and back: other bytes, or %v", c.offset, err)
			}
			if took := time.Since(begun); c.asks == 2 && took > 100*time.Millisecond {
				t.Errorf("at %d: %v", c.offset, took)
			}
			if _, err := r.Seek(-1, io.SeekStart); err == nil {
				t.Error("a seek to before the start")
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if _, err := r.Read(got); err == nil {
				t.Error("it can be read after Close")
			}
			if calls := t.far.take(); len(calls) != c.asks {
				t.Errorf("at %d far was called: %q", c.offset, calls)
			}
		}
	})
}

// Wrong bytes of Far never come to an end, however the blob is read, and it counts as
// missing then.
func TestWrongBytesOfFarNeverEnd(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		wrong := bytes.Clone(layer.Bytes)
		wrong[5<<20] ^= 1
		t.far.bytes = func(digestType) []byte { return wrong }
		for _, offset := range []int64{0, 100, 8<<20 - 10} {
			_, r, err := t.tier.Open(t.Context(), "a", layer.Info.Digest)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := r.Seek(offset, io.SeekStart); err != nil {
				t.Error(err)
			}
			if data, err := io.ReadAll(r); err == nil {
				t.Errorf("from %d: %d bytes and a clean end", offset, len(data))
			}
			synctest.Wait()
			if _, err := t.near.Mem.Stat(t.Context(), "a", layer.Info.Digest); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("it is near: %v", err)
			}
			if _, _, err := t.tier.Open(t.Context(), "a", layer.Info.Digest); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("what is damaged far: %v", err)
			}
			time.Sleep(10 * time.Minute)
		}
	})
}

// A download that ends early is no trouble of its readers, whichever store failed.
func TestDownloadOfFarBreaksOff(t *testing.T) {
	for name, breaks := range map[string]func(t *tierTest, far *pacedStore) (heals func()){
		"Far": func(t *tierTest, far *pacedStore) func() {
			far.breaks.Store(3 << 20)
			return func() { far.breaks.Store(0) }
		},
		"Near": func(t *tierTest, far *pacedStore) func() {
			t.near.most.Store(3 << 20)
			return func() {}
		},
		"full Near": func(t *tierTest, far *pacedStore) func() {
			t.near.Mem.MaxBytes = 3 << 20
			return func() {}
		},
		"Close": func(t *tierTest, far *pacedStore) func() {
			return func() { _ = t.tier.Close() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
				heals, begun := breaks(t, far), time.Now()
				var group sync.WaitGroup
				for range 3 {
					_, r, err := t.tier.Open(t.Context(), "a", layer.Info.Digest)
					if err != nil {
						t.Fatal(err)
					}
					group.Go(func() {
						defer r.Close()
						if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, layer.Bytes) {
							t.Errorf("%d bytes, %v", len(data), err)
						}
					})
				}
				time.Sleep(400 * time.Millisecond)
				heals()
				group.Wait()
				if took := time.Since(begun); took > 5*time.Second {
					t.Errorf("they took %v", took)
				}
			})
		})
	}
}

// The last bytes of a blob wait for its digest, and who waits for long goes on by itself.
func TestDownloadOfFarStandsStill(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := imageOf("a", [][]byte{[]byte("{}"), bytes.Repeat([]byte("0123456789abcdef"), 1<<16)})
		layer, far := img.blobs[1], &pacedStore{spy: t.far}
		putImage(t, far.Mem, img)
		far.breaks.Store(1<<20 - 1000)
		far.hangs.Store(true)
		tier := newTier(t, t.near, far)
		_, r, err := tier.Open(t.Context(), "a", layer.Info.Digest)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := io.ReadFull(r, make([]byte, 1<<20-64<<10)); err != nil || time.Since(begun) > time.Second {
			t.Errorf("what is not held back: %v, after %v", err, time.Since(begun))
		}
		time.Sleep(time.Second)
		far.breaks.Store(0)
		if _, err := io.ReadFull(r, make([]byte, 64<<10)); err != nil || time.Since(begun) < 10*time.Second || time.Since(begun) > 15*time.Second {
			t.Errorf("what is held back: %v, after %v", err, time.Since(begun))
		}
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := r.Read(make([]byte, 10)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("it is read after Close: %v", err)
		}
		if err := r.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("it is closed twice: %v", err)
		}
		synctest.Wait()
		if n := far.open.Load(); n != 1 { // the one that stands still
			t.Errorf("%d readers of Far are open", n)
		}
	})
}

// Many that come near at once all do, also after Near refused some.
func TestManyComeNear(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 7)
		putImage(t, t.far.Mem, img)
		far := &pacedStore{spy: t.far}
		tier := newTier(t, t.near, far)
		t.near.fails("Spool", "Create")
		read := func() {
			var all sync.WaitGroup
			for _, p := range img.all() {
				all.Go(func() {
					if err := readsPiece(t.Context(), tier, p); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			time.Sleep(time.Minute)
		}
		read()
		t.near.works()
		read()
		wantIn(t, "near", t.near.Mem, img)
	})
}

// What is deleted while it comes near is not joined, and does not stay.
func TestDeleteWhileItIsDownloaded(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		_, r, err := t.tier.Open(t.Context(), "a", layer.Info.Digest)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		time.Sleep(100 * time.Millisecond)
		if err := t.tier.Delete(t.Context(), "a", layer.Info.Digest); err != nil {
			t.Fatal(err)
		}
		if _, _, err := t.tier.Open(t.Context(), "a", layer.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("it is joined: %v", err)
		}
		if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, layer.Bytes) {
			t.Errorf("who reads it already: %d bytes, %v", len(data), err)
		}
		time.Sleep(time.Minute)
		if _, err := t.near.Mem.Stat(t.Context(), "a", layer.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("it is near: %v", err)
		}
	})
}

// A download of the cache that has begun near goes on, and is not disturbed by readers.
func TestUnfinishedDownloadNearIsLeftAlone(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		s, err := t.tier.Spool(t.Context(), "a", layer.Info)
		if err != nil {
			t.Fatal(err)
		}
		read := func() {
			if err := readsPiece(t.Context(), t.tier, layer); err != nil {
				t.Error(err)
			}
		}
		read() // while it is open
		if _, err := s.WriteAt(layer.Bytes[:1<<20], 0); err != nil {
			t.Error(err)
		}
		c := s.(store.Checkpointer)
		if err := c.Checkpoint(store.Progress{Front: 1 << 20, Size: layer.Info.Size}); err != nil {
			t.Error(err)
		}
		if err := c.Keep(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if err := t.near.Mem.Delete(t.Context(), "a", layer.Info.Digest); err != nil {
			t.Error(err)
		}
		read() // after it was kept
		s, err = t.near.Spool(t.Context(), "a", layer.Info)
		if err != nil {
			t.Fatal(err)
		}
		if p := s.(store.Checkpointer).Progress(); p.Front != 1<<20 {
			t.Errorf("it begins again at %d", p.Front)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
