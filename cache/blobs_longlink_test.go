package cache_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// longLink makes the upstream of a story one of 2 MiB/s for each connection.
func longLink(s *story) {
	s.up.PaceEach(2 * mib)
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 20 * time.Millisecond})
}

// wantSegments checks that a blob comes right, and whether it came over further
// connections.
func (s *story) wantSegments(size int, want bool) {
	s.Helper()
	layer := s.oneBlob(size)
	s.wantBlob("app/api", layer)
	s.settle()
	if n, segments := s.gets(layer), s.cache.Stats().Segments; segments > 0 != want || segments > int64(n)-1 {
		s.Errorf("%d requests, of which %d count as segments", n, segments)
	}
	s.up.Stop()
	s.wantBlob("app/api", layer)
}

func TestSegments(t *testing.T) {
	for name, setup := range map[string]func(*story){
		"into files":  onDir,
		"into memory": func(s *story) { s.cache.Store = &store.Mem{MaxBytes: layerSize + mib} },
		"into a store that takes no parts": func(s *story) {
			s.cache.Store = struct{ store.Store }{&store.Mem{}}
			s.cache.SpoolDir = s.TempDir()
		},
	} {
		t.Run(name, func(t *testing.T) { newStory(t, setup, longLink).wantSegments(layerSize, true) })
	}
	t.Run("switched off", func(t *testing.T) { newStory(t, onDir, oneConnection).wantSegments(layerSize, false) })
}

// TestSegmentsOfAStorage: each segment is asked for at the registry, which leads to its
// storage by a link that no other request uses, without a credential.
func TestSegmentsOfAStorage(t *testing.T) {
	s := newStory(t, onDir, longLink)
	storage, err := s.up.RedirectBlobs()
	if err != nil {
		t.Fatal(err)
	}
	layer := s.oneBlob(layerSize)
	s.wantBlob("app/api", layer)
	s.settle()
	parts := 0
	for _, q := range storage.Requests() {
		if q.Header.Get("Range") != "" {
			parts++
		}
	}
	// One that the download did not wait for may have ended at the registry, or before.
	if n := s.cache.Stats().Segments; n == 0 || parts == 0 || len(storage.Requests()) > s.gets(layer) {
		t.Errorf("%d segments, %d requests at the registry, %d at the storage, %d with a range", n, s.gets(layer), len(storage.Requests()), parts)
	}
}

// TestSegmentsEndAt429: the answer that an upstream is asked too often ends further
// connections, hides nothing that comes over the first one, and is no trouble of the
// upstream.
func TestSegmentsEndAt429(t *testing.T) {
	s := newStory(t, onDir, longLink)
	layer := s.oneBlob(layerSize)
	s.up.Heal()
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 20 * time.Millisecond, Times: 1})
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Status: http.StatusTooManyRequests, RetryAfter: "60", Times: 1})
	s.wantBlob("app/api", layer)
	s.settle()
	if n := s.cache.Stats().Segments; n != 1 {
		t.Errorf("%d segments, want none after the 429", n)
	}
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.wantManifest("app/api", "v1", img) // after a 429 of its own it would not be asked for
}

// TestSlowClientOfSegments: a client that reads slowly gets every byte in order, whatever
// has come before it.
func TestSlowClientOfSegments(t *testing.T) {
	s := newStory(t, onDir, longLink)
	layer := s.oneBlob(layerSize)
	body, head := s.readSome(layer, mib)
	defer body.Close()
	s.wantBlob("app/api", layer) // the whole is here meanwhile
	rest, err := io.ReadAll(body)
	if want := s.up.Blob("team/api", layer); err != nil || !bytes.Equal(append(head, rest...), want) {
		t.Errorf("%d bytes, %v", len(head)+len(rest), err)
	}
}

// TestSegmentsOfATooLargeBlob: a blob beyond BlobBytes is refused before anything else.
func TestSegmentsOfATooLargeBlob(t *testing.T) {
	s := newStory(t, onDir, longLink, func(s *story) { s.cache.Limits.BlobBytes = layerSize - 1 })
	layer := s.oneBlob(layerSize)
	if r := s.blob("app/api", layer); r.StatusCode != http.StatusBadGateway || s.cache.Stats().Segments != 0 {
		t.Errorf("status %d, %d segments", r.StatusCode, s.cache.Stats().Segments)
	}
}
