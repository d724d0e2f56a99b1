package cache_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// brokenStore fails in a way that a test sets.
type brokenStore struct {
	store.Store
	spool func() error
	write func(off int64) error
	tag   func() error
}

func (b *brokenStore) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
	if b.spool != nil {
		if err := b.spool(); err != nil {
			return nil, err
		}
	}
	s, err := b.Store.(store.Spooler).Spool(ctx, repo, want)
	return &brokenSpool{s, b}, err
}

func (b *brokenStore) Unwrap() store.Store { return b.Store }

func (b *brokenStore) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	if b.tag != nil {
		if err := b.tag(); err != nil {
			return err
		}
	}
	return b.Store.SetTag(ctx, repo, tag, t)
}

type brokenSpool struct {
	store.Spool
	b *brokenStore
}

func (s *brokenSpool) WriteAt(p []byte, off int64) (int, error) {
	if s.b.write != nil {
		if err := s.b.write(off); err != nil {
			return 0, err
		}
	}
	return s.Spool.WriteAt(p, off)
}

func TestTroubleWithTheStoreIsNoTroubleOfTheClient(t *testing.T) {
	for name, breaks := range map[string]func(b *brokenStore, full func() error){
		"no spool": func(b *brokenStore, full func() error) { b.spool = full },
		"in the middle": func(b *brokenStore, full func() error) {
			b.write = func(off int64) error {
				if off > layerSize/2 {
					return full()
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			joined := make(chan struct{}) // closed when all clients wait for one download
			broken := &brokenStore{}
			breaks(broken, func() error { <-joined; return store.ErrFull })
			s := newStory(t, oneConnection, func(s *story) {
				onDir(s)
				broken.Store = s.cache.Store
				s.cache.Store = broken
			})
			layer := s.oneBlob(layerSize)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if r := s.blob("app/api", layer); r.err != nil || digest.FromBytes(r.body) != layer {
						t.Errorf("status %d, %d bytes, %v", r.StatusCode, len(r.body), r.err)
					}
				})
			}
			deadline := time.Now().Add(time.Minute)
			for s.cache.Stats().Readers < 4 {
				if time.Now().After(deadline) {
					t.Errorf("%d of 4 clients have joined the download", s.cache.Stats().Readers)
					break
				}
				time.Sleep(time.Millisecond) // polls a condition; the deadline is the failure
			}
			close(joined)
			wg.Wait()
			if n := s.gets(layer); n > 5 {
				t.Errorf("%d upstream GETs for 4 clients", n)
			}
			small := s.oneBlob(1000)
			if r := s.blob("app/api", small); digest.FromBytes(r.body) != small {
				t.Errorf("small blob: status %d, %v", r.StatusCode, r.err)
			}
			s.up.Fail(upstreamtest.Fault{Kind: "blob", Method: "GET", Flip: true, FlipAt: 77})
			if r := s.blob("app/api", s.oneBlob(layerSize+1)); r.err == nil && r.StatusCode == 200 {
				t.Error("wrong bytes ended cleanly without a store")
			}
		})
	}
}

func TestCrashBetweenAnyTwoSteps(t *testing.T) {
	// A tag that cannot be set stands for a process that dies before it: the
	// next one takes the job up, and the events have the same ids.
	s := newStory(t, func(s *story) {
		s.cache.Store = &brokenStore{Store: &store.Mem{}, tag: func() error { return errors.New("power cut") }}
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	s.pull("app/api", "v1", img)
	s.settle()
	s.wantEvents()
	if err := s.cache.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.web.Close()
	old := s.cache.Store.(*brokenStore)
	old.tag = nil
	s.cache = &cache.Cache{Rules: s.rules, Store: old, Upstream: s.up.Client(), Events: s.cache.Events}
	if err := s.cache.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.serve()
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err := old.Tag(t.Context(), "app/api", "v1"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the copy was not taken up: %+v", s.cache.Copies())
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.settle()
	s.wantEvents("app/api:v1", "app/api@"+img.Digest.String())
	s.up.Stop()
	s.pull("app/api", "v1", img)
}

func TestTagNeverMovesBackwards(t *testing.T) {
	s := newStory(t)
	old := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, layerSize))
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: old.Layers[0].Digest.String(), Stall: mib}) // the first copy ends last
	s.wantManifest("app/api", "v1", old)
	next := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.wantManifest("app/api", "v1", next)
	deadline := time.Now().Add(time.Minute)
	for {
		if tag, err := s.cache.Store.Tag(t.Context(), "app/api", "v1"); err == nil && tag.Digest == next.Digest {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the second image is not copied: %+v", s.cache.Copies())
		}
		time.Sleep(time.Millisecond) // polls a condition; the deadline is the failure
	}
	s.up.Heal()
	s.up.Release()
	s.settle()
	s.up.Stop()
	s.pull("app/api", "v1", next)
	s.pull("app/api", old.Digest.String(), old)
	s.wantEvents("app/api:v1", "app/api@"+next.Digest.String(), "app/api@"+old.Digest.String())
}

func TestForeignLayersAndArtifacts(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	art := s.up.AddArtifact("team/api", "sbom", "application/vnd.example.sbom", img, []byte("sbom"))
	s.pull("app/api", "v1", img)
	s.pull("app/api", "sbom", art)
	foreign := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + img.Config.Digest.String() + `","size":` + "100" + `},"layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"sha256:` + strings.Repeat("a", 64) + `","size":5,"urls":["https://elsewhere.example.com/l"]}]}`)
	d := s.up.AddManifest("team/api", "foreign", ocispec.MediaTypeImageManifest, foreign)
	if r := s.manifest("app/api", "foreign"); r.StatusCode != 200 {
		t.Fatalf("status %d", r.StatusCode)
	}
	s.settle()
	r := s.get("/v2/app/api/referrers/" + img.Digest.String())
	if !strings.Contains(string(r.body), art.Digest.String()) {
		t.Errorf("referrers: %s", r.body)
	}
	s.get("/v2/app/api/tags/list")
	s.up.Stop()
	s.kept("/v2/app/api/tags/list")
	s.kept("/v2/app/api/referrers/" + img.Digest.String())
	s.pull("app/api", "sbom", art)
	if r := s.get("/v2/app/api/referrers/" + img.Digest.String()); !strings.Contains(string(r.body), art.Digest.String()) {
		t.Errorf("stored referrers: %s", r.body)
	}
	if r := s.manifest("app/api", "foreign"); r.Header.Get("Docker-Content-Digest") != d.Digest.String() {
		t.Errorf("a manifest with a foreign layer was not copied: %d", r.StatusCode)
	}
	if r := s.get("/v2/app/api/tags/list"); !strings.Contains(string(r.body), `["foreign","sbom","v1"]`) {
		t.Errorf("stored tags: %s", r.body)
	}
	if r := s.get("/v2/_catalog"); !strings.Contains(string(r.body), `"app/api"`) {
		t.Errorf("catalog: %s", r.body)
	}
}
