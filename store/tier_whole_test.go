package store_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// bare is a store without abilities: nothing can be spooled or deleted.
type bare struct{ store.Store }

// wrongAt makes Far read other bytes for a blob, until it is sent anew.
func wrongAt(far *spy, p store.Piece, at int) {
	wrong := bytes.Clone(p.Bytes)
	wrong[at] ^= 1
	far.bytes = func(d digestType) []byte {
		if d == p.Info.Digest {
			return wrong
		}
		return nil
	}
}

// A reader of a whole blob does not come to an end of wrong bytes, also if they do not come
// near, or not to their end.
func TestWrongBytesThatDoNotComeNear(t *testing.T) {
	for name, away := range map[string]func(t *tierTest, far *pacedStore) store.Store{
		"near takes none":   func(t *tierTest, _ *pacedStore) store.Store { return bare{t.near} },
		"near is full soon": func(t *tierTest, _ *pacedStore) store.Store { t.near.most.Store(3 << 20); return t.near },
		"near is full late": func(t *tierTest, _ *pacedStore) store.Store { t.near.most.Store(8<<20 - 1000); return t.near },
	} {
		for _, at := range []int{0, 1 << 20, 5 << 20, 8<<20 - 1} {
			t.Run(name, func(t *testing.T) {
				inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
					wrongAt(t.far, layer, at)
					tier := newTier(t, away(t, far), far)
					_, r, err := tier.Open(t.Context(), "a", layer.Info.Digest)
					if err != nil {
						t.Fatal(err)
					}
					defer r.Close()
					if name == "near takes none" { // a part that is read first does not count
						if _, err := r.Seek(4<<20, io.SeekStart); err != nil {
							t.Error(err)
						}
						if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
							t.Error(err)
						}
						if _, err := r.Seek(0, io.SeekStart); err != nil {
							t.Error(err)
						}
					}
					if data, err := io.ReadAll(r); err == nil || len(data) == len(layer.Bytes) || errors.Is(err, store.ErrUnavailable) {
						t.Errorf("wrong at %d: %d bytes, %v", at, len(data), err)
					}
					if n, err := r.Read(make([]byte, 10)); n > 0 || err == io.EOF {
						t.Errorf("wrong at %d: and then %d bytes, %v", at, n, err)
					}
					time.Sleep(time.Minute)
					if _, _, err := tier.Open(t.Context(), "a", layer.Info.Digest); !errors.Is(err, store.ErrNotFound) {
						t.Errorf("wrong at %d, and it is not missing then: %v", at, err)
					}
				})
			})
		}
	}
}

// What is whole is read whole, and in any order.
func TestReadsThatDoNotComeNear(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		tier := newTier(t, bare{t.near}, far)
		_, r, err := tier.Open(t.Context(), "a", layer.Info.Digest)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for _, from := range []int64{0, 5 << 20, 1 << 20, 8 << 20, 0} {
			if pos, err := r.Seek(from, io.SeekStart); pos != from || err != nil {
				t.Errorf("it is at %d, not %d: %v", pos, from, err)
			}
			if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, layer.Bytes[from:]) {
				t.Errorf("from %d: %d bytes, %v", from, len(data), err)
			}
		}
		time.Sleep(time.Minute)
		if err := readsPiece(t.Context(), t.near.Mem, layer); err != nil {
			t.Errorf("it does not come near behind its reader: %v", err)
		}
	})
}

// A body of Far that is longer than it should be ends where it should.
func TestLongBodyOfFar(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		t.far.bytes = func(digestType) []byte { return append(bytes.Clone(layer.Bytes), "more"...) }
		for _, near := range []store.Store{bare{t.near}, new(store.Mem)} {
			if err := readsPiece(t.Context(), newTier(t, near, far), layer); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			if _, spools := near.(*store.Mem); spools {
				if err := readsPiece(t.Context(), near, layer); err != nil {
					t.Errorf("near: %v", err)
				}
			}
		}
	})
}

// A body of Far that is shorter than it should be has no end.
func TestShortBodyOfFar(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		t.far.bytes = func(digestType) []byte { return layer.Bytes[:5<<20] }
		for _, near := range []store.Store{bare{t.near}, t.near} {
			tier := newTier(t, near, far)
			_, r, err := tier.Open(t.Context(), "a", layer.Info.Digest)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if data, err := io.ReadAll(r); err == nil {
				t.Errorf("a clean end after %d bytes", len(data))
			}
			time.Sleep(time.Minute)
		}
	})
}

// What comes near behind a reader of a part shows that it is damaged.
func TestDamageIsFoundBehindTheReader(t *testing.T) {
	inPaced(t, func(t *tierTest, far *pacedStore, layer store.Piece) {
		wrongAt(t.far, layer, 5<<20)
		tier := newTier(t, bare{t.near}, far)
		_, r, err := tier.Open(t.Context(), "a", layer.Info.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if _, _, err := tier.Open(t.Context(), "a", layer.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("what is damaged far: %v", err)
		}
		if _, err := t.near.Mem.Stat(t.Context(), "a", layer.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("it is near: %v", err)
		}
	})
}

// What is damaged far is not adopted, which would keep it for ever: a copy brings it again
// and sends it.
func TestDamageOfFarIsMended(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, img := t.Context(), imageOf("a", [][]byte{[]byte("{}"), bytes.Repeat([]byte("large;"), 30_000), []byte("small")})
		other, _ := t.elsewhere()
		putImage(t, other, img)
		for _, p := range img.blobs[1:] {
			if has, err := t.tier.Backed(ctx, "a", p.Info.Digest); !has || err != nil {
				t.Errorf("it does not count as far: %v", err)
			}
			wrongAt(t.far, p, 0)
			if err := readsPiece(ctx, t.tier, p); err == nil {
				t.Fatal("wrong bytes were read")
			}
			time.Sleep(time.Minute)
			if has, err := t.tier.Backed(ctx, "a", p.Info.Digest); has || err != nil {
				t.Errorf("it counts as far: %v", err)
			}
			if _, err := t.tier.Stat(ctx, "a", p.Info.Digest); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("it is not missing: %v", err)
			}
			for _, repo := range []string{"a", "b"} {
				if err := t.tier.Adopt(ctx, repo, p.Info, func(ctxType, io.ReadSeeker) error { return nil }); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("it is adopted in %s: %v", repo, err)
				}
			}
			if err := putPiece(ctx, t.tier, p); err != nil { // as a download brings it
				t.Fatal(err)
			}
			t.far.take()
			if err := putPiece(ctx, t.tier, img.manifest); err != nil {
				t.Fatal(err)
			}
			if calls := t.far.take(); count(calls, "Commit "+short(p.Info.Digest)) != 1 {
				t.Errorf("it was not sent again: %q", calls)
			}
			if _, err := t.tier.Stat(ctx, "a", p.Info.Digest); err != nil {
				t.Errorf("it is still missing: %v", err)
			}
		}
	})
}
