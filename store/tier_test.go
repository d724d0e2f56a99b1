package store_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/storetest"
)

// newTier returns a Tier that is closed before its stores are.
func newTier(t testing.TB, near, far store.Store) *store.Tier {
	t.Helper()
	tier := &store.Tier{Near: near, Far: far}
	t.Cleanup(func() {
		if err := tier.Close(); err != nil {
			t.Error(err)
		}
	})
	return tier
}

// newPatientTier is newTier in real time, where a Far that is late may be a machine that
// stood still for a moment.
func newPatientTier(t testing.TB, near, far store.Store) *store.Tier {
	t.Helper()
	tier := newTier(t, near, far)
	tier.Patience = -1
	return tier
}

// What a disk keeps is for TestDir: here nothing waits for it.
func TestTier(t *testing.T) {
	t.Run("Dir over Mem", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store { return newPatientTier(t, unsynced(t), new(store.Mem)) })
	})
	t.Run("Dir over Dir", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store { return newPatientTier(t, unsynced(t), unsynced(t)) })
	})
	t.Run("Mem over Dir", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store { return newPatientTier(t, new(store.Mem), unsynced(t)) })
	})
}

func unsynced(t *testing.T) *store.Dir {
	t.Helper()
	return closed(t)(store.OpenUnsynced(t.TempDir()))
}

// What a Tier asks of Far is what its documentation says.
func TestRequestsToTheFarStore(t *testing.T) {
	inTier(t, func(t *tierTest) {
		ctx, img := t.Context(), newImage("a", "one", 3)
		layer := img.blobs[1]
		miss := func() {
			for range 3 { // as a cold blob is looked for: opened, adopted, and looked for again
				if _, _, err := t.tier.Open(ctx, "a", layer.Info.Digest); !errors.Is(err, store.ErrNotFound) {
					t.Fatal(err)
				}
				if err := t.tier.Adopt(ctx, "a", layer.Info, nil); !errors.Is(err, store.ErrNotFound) {
					t.Fatal(err)
				}
				if _, err := t.tier.Stat(ctx, "a", layer.Info.Digest); !errors.Is(err, store.ErrNotFound) {
					t.Fatal(err)
				}
			}
		}
		miss()
		t.asked(2, "a cold blob")
		time.Sleep(2 * time.Second)
		miss()
		t.asked(2, "a cold blob after a while")
		for _, p := range img.blobs {
			if err := putPiece(ctx, t.tier, p); err != nil {
				t.Fatal(err)
			}
		}
		t.asked(0, "blobs that are committed")
		time.Sleep(2 * time.Second)
		if err := putPiece(ctx, t.tier, img.manifest); err != nil {
			t.Fatal(err)
		}
		t.asked(4+2*4+2, "a new image: 1 for each blob, its bytes, and the manifest")
		if err := t.tier.SetTag(ctx, "a", "v1", img.tag()); err != nil {
			t.Fatal(err)
		}
		t.asked(1, "a tag that moves")
		wantIn(t, "warm", t.tier, img)
		t.asked(0, "a warm image")
		if err := putPiece(ctx, t.tier, img.manifest); err != nil {
			t.Fatal(err)
		}
		t.asked(2, "the manifest once more: its blobs are known to be there")

		t.restart()
		wantIn(t, "warm", t.tier, img)
		t.asked(1, "a warm image after a restart: 1 for its manifest, behind it")
		wantIn(t, "warm", t.tier, img)
		t.asked(0, "a warm image")
		time.Sleep(5 * time.Minute)
		wantIn(t, "warm", t.tier, img)
		t.asked(1, "a warm image after 5 minutes: 1 for its manifest, behind it")
		other, near := t.elsewhere()
		wantIn(t, "elsewhere", other, img)
		t.asked(1+4, "elsewhere: 1 for each")
		wantIn(t, "near elsewhere", near, img)
		wantIn(t, "elsewhere again", other, img)
		t.asked(0, "elsewhere again")
		if _, err := other.Tag(ctx, "a", "v1"); err != nil {
			t.Fatal(err)
		}
		t.asked(1, "a tag")
	})
}

// Every step of a commit may be the last one of a process. What is near is far, and what is
// far is whole; the next try sends only what is missing.
func TestCommitThatEndsAnywhere(t *testing.T) {
	inTier(t, func(t *tierTest) {
		var steps []string
		for step := 0; ; step++ {
			t.near, t.far = newSpy(), newSpy()
			t.restart()
			img := newImage("a", "one", 3)
			for _, p := range img.blobs {
				if err := putPiece(t.Context(), t.tier, p); err != nil {
					t.Fatal(err)
				}
			}
			n, dead := 0, false
			var mu sync.Mutex
			die := func(s *spy) {
				s.meets(func(_ ctxType) error {
					mu.Lock()
					defer mu.Unlock()
					if n++; n > step {
						dead = true
						return errSpy
					}
					return nil
				}, "Create", "Commit", "Adopt")
			}
			die(t.near)
			die(t.far)
			err := putPiece(t.Context(), t.tier, img.manifest)
			t.near.works()
			t.far.works()
			mu.Lock()
			last := !dead
			mu.Unlock()
			_, ferr := t.far.Mem.Stat(t.Context(), "a", img.manifest.Info.Digest)
			_, nerr := t.near.Mem.Stat(t.Context(), "a", img.manifest.Info.Digest)
			if ferr == nil {
				wantIn(t, "far", t.far.Mem, img)
			}
			if nerr == nil && ferr != nil || err == nil && ferr != nil || errors.Is(err, store.ErrNotFound) {
				t.Errorf("step %d: %v; far: %v, near: %v", step, err, ferr, nerr)
			}
			if err != nil && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("step %d: %v", step, err)
			}
			t.restart()
			if err := putPiece(t.Context(), t.tier, img.manifest); err != nil {
				t.Errorf("step %d, the next try: %v", step, err)
			}
			wantIn(t, "far", t.far.Mem, img)
			wantIn(t, "near", t.near.Mem, img)
			steps = append(steps, strings.Join(t.far.take(), ", "))
			if last {
				break
			}
		}
		if len(steps) < 15 {
			t.Errorf("only %d steps", len(steps))
		}
		// At the last step all is far: each blob is looked up, and none is sent.
		if end := steps[len(steps)-1]; strings.Count(end, "Create") != 1 || strings.Count(end, "Adopt") != 4 {
			t.Errorf("the try after the last one: %s", end)
		}
	})
}

// Blobs stay near until a manifest names them, and go far once, whichever process commits.
func TestBlobsGoFarWithTheirManifestAndOnce(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 3)
		var group sync.WaitGroup
		for _, p := range img.blobs {
			if err := putPiece(t.Context(), t.tier, p); err != nil {
				t.Fatal(err)
			}
		}
		t.asked(0, "blobs")
		second := newImage("b", "one", 3) // the same bytes in another repository
		for _, p := range second.blobs {
			if err := putPiece(t.Context(), t.tier, p); err != nil {
				t.Fatal(err)
			}
		}
		t.far.set(func(ctxType, string) error { time.Sleep(10 * time.Millisecond); return nil })
		for _, i := range []tierImage{img, second, img, second} {
			group.Go(func() {
				if err := putPiece(t.Context(), t.tier, i.manifest); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		t.far.works()
		calls := t.far.take()
		for _, p := range img.blobs {
			if n := count(calls, "Commit "+short(p.Info.Digest)); n != 1 {
				t.Errorf("%s was sent %d times", p.Info.MediaType, n)
			}
			if n := count(calls, "Adopt "+short(p.Info.Digest)); n != 2 {
				t.Errorf("%s was looked up %d times for 2 repositories", p.Info.MediaType, n)
			}
		}
		wantIn(t, "far", t.far.Mem, img)
		wantIn(t, "far", t.far.Mem, second)
	})
}

func count(calls []string, call string) (n int) {
	for _, c := range calls {
		if c == call {
			n++
		}
	}
	return n
}

// A manifest whose blobs are nowhere is not committed; layers that lie elsewhere are not
// missed.
func TestManifestWithoutItsBlobs(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 2)
		err := putPiece(t.Context(), t.tier, img.manifest)
		if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a manifest whose blobs are missing: %v", err)
		}
		if _, err := t.tier.Stat(t.Context(), "a", img.manifest.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		foreign := img.manifest
		foreign.Bytes = []byte(`{"layers":[{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"` +
			string(img.blobs[1].Info.Digest) + `","size":1,"urls":["https://example.com/x"]}]}`)
		foreign.Info.Digest, foreign.Info.Size = digest.FromBytes(foreign.Bytes), int64(len(foreign.Bytes))
		if err := putPiece(t.Context(), t.tier, foreign); err != nil {
			t.Errorf("a manifest of a foreign layer: %v", err)
		}
	})
}

// What is only far is found by a commit, too.
func TestCommitOfWhatWasGivenUpNear(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 3)
		putImage(t, t.tier, img)
		other, near := t.elsewhere()
		t.far.take()
		if err := putPiece(t.Context(), other, img.manifest); err != nil {
			t.Fatal(err)
		}
		if calls := t.far.take(); slices.ContainsFunc(calls, func(c string) bool {
			return strings.HasPrefix(c, "Create") && c != "Create "+short(img.manifest.Info.Digest)
		}) {
			t.Errorf("blobs were sent again: %q", calls)
		}
		if _, err := near.Stat(t.Context(), "a", img.blobs[1].Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
	})
}

// Close ends what is brought near, and nothing is brought near by later reads.
func TestClosedTierBringsNothing(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 3)
		putImage(t, t.tier, img)
		other, near := t.elsewhere()
		t.far.hangs("Open " + short(img.blobs[1].Info.Digest))
		go func() { _ = readsPiece(t.Context(), other, img.blobs[1]) }()
		synctest.Wait()
		t.far.works()
		if err := readsPiece(t.Context(), other, img.blobs[2]); err != nil {
			t.Error(err)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := readsPiece(t.Context(), other, img.blobs[3]); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		if _, err := near.Stat(t.Context(), "a", img.blobs[3].Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestAbilitiesOfATierAreThoseOfItsStores(t *testing.T) {
	type plain struct{ store.Store }
	mem := new(store.Mem)
	both := &store.Tier{Near: mem, Far: mem}
	wantAbility[store.Spooler](t, both, true)
	wantAbility[store.Batcher](t, both, false)
	wantAbility[store.Mover](t, both, false) // as Mem
	for name, ok := range map[string]bool{"Spooler": true, "Records": true, "Deleter": true, "Lister": true, "BlobLister": true, "Sizer": true} {
		if lacks := strings.Join(store.Lacks(both), "\n"); strings.Contains(lacks, name+":") == ok {
			t.Errorf("%s is there: %v\n%s", name, ok, lacks)
		}
	}
	near := &store.Tier{Near: mem, Far: plain{mem}}
	wantAbility[store.Spooler](t, near, true)
	wantAbility[store.Records](t, near, true)
	wantAbility[store.Sizer](t, near, true)
	wantAbility[store.UseRecorder](t, near, true)
	wantAbility[store.Deleter](t, near, false)
	wantAbility[store.Lister](t, near, false)
	wantAbility[store.ManifestLister](t, near, false)
	wantAbility[store.BlobLister](t, near, false)
	far := &store.Tier{Near: plain{mem}, Far: mem}
	wantAbility[store.Spooler](t, far, false)
	wantAbility[store.Records](t, far, false)
	wantAbility[store.Sizer](t, far, false)
	wantAbility[store.UseRecorder](t, far, false)
	wantAbility[store.Deleter](t, far, false)
	wantAbility[store.Lister](t, far, true)
	wantAbility[store.Tiered](t, far, true)
	if _, err := far.Spool(t.Context(), "a", store.Info{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := far.PutRecord(t.Context(), "a", "b", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	for _, err := range near.TagNames(t.Context(), "a", "") {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
	if store.IsShared(both) || !store.IsShared(&store.Tier{Near: mem, Far: shared{mem}}) || store.IsShared(mem) {
		t.Error("Far says whether a Tier is shared")
	}
}

type shared struct{ store.Store }

func (shared) Shared() bool { return true }

// A manifest of any size that the grammar of Create allows is refused before it fills the
// memory.
func TestHugeManifestOfATier(t *testing.T) {
	inTier(t, func(t *tierTest) {
		p := newImage("a", "one", 1).manifest
		p.Info.Size = -1
		w, err := t.tier.Create(t.Context(), "a", p.Info)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for range 5 {
			_, err = io.WriteString(w, strings.Repeat("x", 1<<20))
		}
		if !errors.Is(err, store.ErrSize) {
			t.Errorf("5 MiB: %v", err)
		}
	})
}
