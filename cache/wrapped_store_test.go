package cache_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// countingStore counts the bytes that are committed through Create. Its other
// abilities are those of the store behind it.
type countingStore struct {
	store.Store

	mu        sync.Mutex
	committed map[digest.Digest]int64 // bytes
}

func (c *countingStore) Unwrap() store.Store { return c.Store }

func (c *countingStore) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	w, err := c.Store.Create(ctx, repo, want)
	if err != nil {
		return nil, err
	}
	return &countingWriter{Writer: w, store: c, digest: want.Digest}, nil
}

type countingWriter struct {
	store.Writer
	store  *countingStore
	digest digest.Digest
	n      int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.n += int64(n)
	return n, err
}

func (w *countingWriter) Commit(ctx context.Context) error {
	err := w.Writer.Commit(ctx)
	if err == nil {
		w.store.mu.Lock()
		defer w.store.mu.Unlock()
		w.store.committed[w.digest] += w.n
	}
	return err
}

func TestWrappedStoreSeesEveryWriteOfAPull(t *testing.T) {
	for name, setup := range map[string]func(*story){"Mem": func(*story) {}, "Dir": onDir} {
		t.Run(name, func(t *testing.T) {
			counting := &countingStore{committed: make(map[digest.Digest]int64)}
			s := newStory(t, setup, func(s *story) {
				counting.Store = s.cache.Store
				s.cache.Store = counting
			})
			img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(3, 100_000))
			s.pull("app/api", "v1", img)
			s.settle()
			s.wantEvents("app/api@"+img.Digest.String(), "app/api:v1")

			counting.mu.Lock()
			defer counting.mu.Unlock()
			pieces := append(img.Layers, img.Config, img.Descriptor)
			for _, d := range pieces {
				if n := counting.committed[d.Digest]; n != d.Size {
					t.Errorf("the wrapper saw %d bytes of %s, want %d", n, d.Digest, d.Size)
				}
			}
			if len(counting.committed) != len(pieces) {
				t.Errorf("the wrapper saw %d pieces, want %d", len(counting.committed), len(pieces))
			}
		})
	}
}

func TestWrappedStoreKeepsWhatIsBehindIt(t *testing.T) {
	s := newStory(t, func(s *story) {
		s.cache.Store = &countingStore{Store: s.cache.Store, committed: make(map[digest.Digest]int64)}
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/api", "v1", img)
	s.settle()
	if r := s.get("/v2/_catalog"); r.StatusCode != 200 {
		t.Errorf("the catalog of a wrapped store: status %d %s", r.StatusCode, r.body)
	}
	if err := s.cache.Delete(t.Context(), "app/api", "v1"); err != nil {
		t.Errorf("Delete in a wrapped store: %v", err)
	}
}

// TestStoreThatLacks: the log says once what the store cannot do, and what that costs.
func TestStoreThatLacks(t *testing.T) {
	c, _ := cachetest.New(t)
	var log lines
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	c.Store = struct{ store.Store }{&store.Mem{}}
	for range 2 {
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "Records: unfinished copies") {
		t.Error(text)
	}
}
