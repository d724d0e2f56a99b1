package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

// An answer of Far that comes after something was stored does not make it missing.
func TestAbsenceThatIsNotTrueAnyMore(t *testing.T) {
	for name, ask := range map[string]func(ctx ctxType, tier *store.Tier, p store.Piece) error{
		"Stat": func(ctx ctxType, tier *store.Tier, p store.Piece) error {
			_, err := tier.Stat(ctx, "a", p.Info.Digest)
			return err
		},
		"Open": func(ctx ctxType, tier *store.Tier, p store.Piece) error {
			_, _, err := tier.Open(ctx, "a", p.Info.Digest)
			return err
		},
		"Adopt": func(ctx ctxType, tier *store.Tier, p store.Piece) error { return tier.Adopt(ctx, "a", p.Info, nil) },
		"Backed": func(ctx ctxType, tier *store.Tier, p store.Piece) error {
			if has, err := tier.Backed(ctx, "a", p.Info.Digest); has || err != nil {
				return fmt.Errorf("it is there, or %w", err)
			}
			return store.ErrNotFound
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTier(t, func(t *tierTest) {
				ctx, img := t.Context(), newImage("a", "one", 1)
				layer := img.blobs[1]
				call := name
				if name == "Backed" {
					call = "Stat"
				}
				t.far.arrive(time.Second, call)
				var asking sync.WaitGroup
				asking.Go(func() {
					if err := ask(ctx, t.tier, layer); !errors.Is(err, store.ErrNotFound) {
						t.Error(err)
					}
				})
				synctest.Wait()
				t.far.arrive(0, "")
				putImage(t, t.tier, img)
				asking.Wait()
				if err := t.near.Mem.Delete(ctx, "a", layer.Info.Digest); err != nil {
					t.Fatal(err)
				}
				if _, err := t.tier.Stat(ctx, "a", layer.Info.Digest); err != nil {
					t.Errorf("it is there: %v", err)
				}
				if err := t.tier.Adopt(ctx, "b", layer.Info, func(ctxType, io.ReadSeeker) error { return nil }); err != nil {
					t.Errorf("its bytes are there: %v", err)
				}
			})
		})
	}
}

// An answer of Far that comes after something was deleted does not make it there.
func TestPresenceThatIsNotTrueAnyMore(t *testing.T) {
	for _, verb := range []string{"Stat", "Backed"} {
		t.Run(verb, func(t *testing.T) {
			inTier(t, func(t *tierTest) {
				ctx, img := t.Context(), newImage("a", "one", 1)
				d := img.manifest.Info.Digest
				other, _ := t.elsewhere()
				putImage(t, other, img)
				t.far.arrive(time.Second, "Stat")
				go func() {
					if verb == "Stat" {
						_, _ = t.tier.Stat(ctx, "a", d)
					} else {
						_, _ = t.tier.Backed(ctx, "a", d)
					}
				}()
				synctest.Wait()
				if err := t.tier.Delete(ctx, "a", d); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if has, err := t.tier.Backed(ctx, "a", d); has || err != nil {
					t.Errorf("it counts as far: %v", err)
				}
			})
		})
	}
}

// What Far was found to have or to lack is remembered, until something happens to it.
func TestWhatIsRememberedOfFar(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, img := t.Context(), newImage("a", "one", 1)
		layer, d := img.blobs[1], img.manifest.Info.Digest
		other, _ := t.elsewhere()
		backed := func(want bool, asks int, what string) {
			t.Helper()
			if has, err := t.tier.Backed(ctx, "a", d); has != want || err != nil {
				t.Errorf("%s: %v, %v", what, has, err)
			}
			t.asked(asks, what)
		}
		backed(false, 1, "what is nowhere")
		backed(false, 0, "what was not there a moment ago")
		if _, err := t.tier.Stat(ctx, "a", d); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		t.asked(0, "what was not there a moment ago")
		putImage(t, other, img)
		t.far.take()
		time.Sleep(time.Second)
		backed(true, 1, "what came elsewhere")
		backed(true, 0, "what was there before")
		if err := t.far.Mem.Delete(ctx, "a", d); err != nil {
			t.Fatal(err)
		}
		if err := t.tier.Forget(ctx, "a", d.String()); err != nil {
			t.Error(err)
		}
		backed(false, 1, "what was deleted elsewhere")
		time.Sleep(time.Second)
		putImage(t, t.tier, img)
		t.far.take()
		backed(true, 0, "what was sent")
		if err := t.far.Mem.Delete(ctx, "a", d); err != nil {
			t.Fatal(err)
		}
		if err := t.tier.Forget(ctx, "a", ""); err != nil {
			t.Error(err)
		}
		backed(false, 1, "what was deleted elsewhere with its repository")
		t.far.fails("Stat")
		if has, err := t.tier.Backed(ctx, "a", layer.Info.Digest); has || !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("what nobody knows: %v, %v", has, err)
		}
		if has, err := t.tier.Backed(ctx, "../a", d); has || err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a repository that is none: %v, %v", has, err)
		}
	})
}

// What is adopted is there at once.
func TestAdoptedFromFar(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, img := t.Context(), newImage("a", "one", 1)
		layer := img.blobs[1]
		other, _ := t.elsewhere()
		putImage(t, other, img)
		if _, err := t.tier.Stat(ctx, "b", layer.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		if err := t.tier.Adopt(ctx, "b", layer.Info, func(context.Context, io.ReadSeeker) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := t.tier.Stat(ctx, "b", layer.Info.Digest); err != nil {
			t.Errorf("what was adopted: %v", err)
		}
	})
}

// A proof that fails is not tried again far, and one is enough.
func TestProofIsAskedForOnce(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img, n := newImage("a", "one", 1), 0
		putImage(t, t.tier, img)
		err := t.tier.Adopt(t.Context(), "b", img.blobs[1].Info, func(context.Context, io.ReadSeeker) error { n++; return store.ErrNotFound })
		if n != 1 || !errors.Is(err, store.ErrNotFound) {
			t.Errorf("asked for %d times: %v", n, err)
		}
	})
}

// An arrival that is told of outdates a question that is under way.
func TestArrivalDuringAQuestion(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		d := img.manifest.Info.Digest
		t.far.arrive(time.Second, "Stat")
		go func() { _, _ = t.tier.Stat(t.Context(), "a", d) }()
		synctest.Wait()
		t.far.arrive(0, "")
		putImage(t, t.far.Mem, img)
		t.tier.Arrived("a", d)
		time.Sleep(time.Second)
		synctest.Wait()
		if _, err := t.tier.Stat(t.Context(), "a", d); err != nil {
			t.Error(err)
		}
	})
}

// A proof may take long, and Far may not, before it or after it.
func TestSlowProof(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		inTier(t, func(t *tierTest) {
			img := newImage("a", "one", 1)
			putImage(t, t.far.Mem, img)
			tier := newTier(t, t.near, linkingStore{t.far, hangs})
			err := tier.Adopt(t.Context(), "b", img.blobs[1].Info, func(context.Context, io.ReadSeeker) error {
				time.Sleep(time.Minute)
				return nil
			})
			if !hangs && err != nil || hangs && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("Far hangs: %v: %v", hangs, err)
			}
		})
	}
}

// linkingStore needs its context for the link after a proof, and may never make it.
type linkingStore struct {
	*spy
	hangs bool
}

func (s linkingStore) Adopt(ctx context.Context, repo string, want store.Info, allowed func(context.Context, io.ReadSeeker) error) error {
	return s.spy.Adopt(ctx, repo, want, func(ctx context.Context, have io.ReadSeeker) error {
		if err := allowed(ctx, have); err != nil {
			return err
		}
		if s.hangs {
			<-ctx.Done()
		}
		return ctx.Err()
	})
}

// A manifest of Far that has no end does not fill the memory.
func TestEndlessManifestOfFar(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		putImage(t, t.far.Mem, img)
		tier := newTier(t, t.near, endlessStore{t.far, t.T})
		if _, _, err := tier.Open(t.Context(), "a", img.manifest.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
	})
}

type endlessStore struct {
	*spy
	t *testing.T
}

func (s endlessStore) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	info, r, err := s.spy.Open(ctx, repo, d)
	if err != nil {
		return info, nil, err
	}
	_ = r.Close()
	return info, &endlessReader{nopCloser{bytes.NewReader(nil)}, s.t, 0}, nil
}

type endlessReader struct {
	nopCloser
	t *testing.T
	n int
}

func (r *endlessReader) Read(p []byte) (int, error) {
	if r.n += len(p); r.n > 32<<20 {
		r.t.Error("32 MiB were read")
		return 0, io.EOF
	}
	return len(p), nil
}
