package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// gatedRecords is a store whose records take their time to be listed, or cannot be.
type gatedRecords struct {
	*store.Mem
	gate chan struct{} // closed: they can be listed; nil: they can
	fail error
	mu   sync.Mutex
	read int
}

func (s *gatedRecords) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if s.gate != nil {
			select {
			case <-s.gate:
			case <-ctx.Done():
			}
		}
		s.mu.Lock()
		s.read++
		s.mu.Unlock()
		if s.fail != nil {
			yield("", s.fail)
			return
		}
		s.Mem.RecordKeys(ctx, kind)(yield)
	}
}

func (s *gatedRecords) reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read
}

// leave has a process leave a copy that is not finished.
func leave(t *testing.T, s *story) upstreamtest.Image {
	t.Helper()
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 503})
	s.wantManifest("app/api", "v1", img)
	if err := s.cache.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	return img
}

// Start knows what a former process left when it returns, waits no longer than it
// is told, and says if that cannot be read.
func TestStart(t *testing.T) {
	records := &gatedRecords{Mem: &store.Mem{}}
	s := newStory(t, func(s *story) { s.cache.Store = records })
	leave(t, s)
	next := func(gate chan struct{}, fail error) *cache.Cache {
		c := &cache.Cache{Rules: s.rules, Store: &gatedRecords{Mem: records.Mem, gate: gate, fail: fail}, Upstream: s.up.Client()}
		t.Cleanup(func() {
			if err := c.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return c
	}
	gate := make(chan struct{})
	time.AfterFunc(50*time.Millisecond, func() { close(gate) })
	c := next(gate, nil)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if copies := c.Copies(); len(copies) != 1 {
		t.Errorf("%d copies are known after Start, want one", len(copies))
	}
	gate = make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := next(gate, nil).Start(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the end of the context", err)
	}
	close(gate)
	fail := errors.New("the disk is gone")
	if err := next(nil, fail).Start(t.Context()); !errors.Is(err, fail) {
		t.Errorf("%v, want why the records cannot be listed", err)
	}
}

// A Cache that never ran does not begin to when it is shut down, and is over then.
func TestShutdownOfACacheThatNeverRan(t *testing.T) {
	records := &gatedRecords{Mem: &store.Mem{}}
	s := newStory(t, func(s *story) { s.cache.Store = records })
	img := leave(t, s)
	before := records.reads()
	client := s.up.Client()
	client.Dial = func(context.Context, string, string) (net.Conn, error) {
		t.Error("the upstream is asked")
		return nil, errors.ErrUnsupported
	}
	c := &cache.Cache{Rules: s.rules, Store: records, Upstream: client}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err == nil {
		t.Error("Start after Shutdown is no error")
	}
	if _, _, err := c.Manifest(t.Context(), "app/api", "v2"); err == nil {
		t.Error("a pull after Shutdown is no error")
	}
	if err := c.Prefetch(t.Context(), "app/api", img.Digest.String(), cache.PrefetchOptions{}); err == nil {
		t.Error("Prefetch after Shutdown is no error")
	}
	if _, err := c.Retry(t.Context(), "", ""); err == nil {
		t.Error("Retry after Shutdown is no error")
	}
	if n := records.reads(); n != before {
		t.Errorf("the records were read %d times", n-before)
	}
}

// Shutdown ends whoever waits in a method.
func TestShutdownEndsPrefetch(t *testing.T) {
	for name, fault := range map[string]upstreamtest.Fault{
		"hangs": {Kind: "blob", Hang: true}, "fails": {Kind: "blob", Status: 503}, "stalls": {Kind: "blob", Method: "GET", Stall: 10},
	} {
		s := newStory(t)
		s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 100_000))
		s.up.Fail(fault)
		done := make(chan error, 1)
		started := make(chan struct{})
		var once sync.Once
		go func() {
			done <- s.cache.Prefetch(context.Background(), "app/api", "v1", cache.PrefetchOptions{Progress: func(int64, int64) { once.Do(func() { close(started) }) }})
		}()
		select {
		case <-started:
		case err := <-done: // the copy failed once, which is told
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			continue
		}
		if err := s.cache.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: Prefetch hangs", name)
		}
	}
}

// lines is a log that is read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Our own end is no error of anybody's.
func TestOurOwnEndIsNoError(t *testing.T) {
	var log lines
	s := newStory(t, func(s *story) {
		onDir(s)
		s.cache.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(3, layerSize))
	s.up.Pace(8 * mib)
	s.wantManifest("app/api", "v1", img)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.blob("app/api", img.Layers[0].Digest)
	}()
	for s.up.BlobBytes("") == 0 {
		time.Sleep(time.Millisecond) // polls a condition; the test's deadline is the failure
	}
	if err := s.cache.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	if text := log.String(); strings.Contains(text, "level=ERROR") {
		t.Errorf("the end is logged as an error:\n%s", text)
	}
}

// A client that leaves while a stored blob is opened is no trouble of the store.
func TestClientThatLeavesIsNoTroubleOfTheStore(t *testing.T) {
	var log lines
	s := newStory(t, func(s *story) { s.cache.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/api", "v1", img)
	s.settle()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, r, err := s.cache.Blob(ctx, "app/api", img.Layers[0].Digest); err == nil {
		_ = r.Close()
	}
	_, _, _ = s.cache.Manifest(ctx, "app/api", img.Digest.String())
	if strings.Contains(log.String(), "level=ERROR") || s.cache.Stats().StoreErrors != 0 {
		t.Errorf("%d errors of the store:\n%s", s.cache.Stats().StoreErrors, log.String())
	}
}

// A full queue is nobody's own failure: an index whose platforms find no room is not
// parked.
func TestFullQueueParksNothing(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64", "s390x", "ppc64le")
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 503})
		if err := c.rules.Replace(namedRule(everything)); err != nil {
			c.Fatal(err)
		}
		c.manifest("v1")
		c.pass(48 * time.Hour)
		if len(c.parked) != 0 {
			c.Errorf("%d copies are parked: %v", len(c.parked), c.parked)
		}
		c.up.Heal()
		c.pass(time.Hour)
		if copies := c.cache.Copies(); len(copies) > 1 {
			c.Errorf("%v", copies)
		}
	}, func(c *clock) { c.cache.Limits.MaxJobs = 2 })
}

// A manifest that is shared by those who ask for it is read by all of them at once;
// under the race detector this shows that it never changes.
func TestManifestIsSharedByAskers(t *testing.T) {
	records := &gatedRecords{Mem: &store.Mem{}, gate: make(chan struct{})}
	s := newStory(t, func(s *story) { s.cache.Store = records; s.cache.Limits.Attempts = 1 })
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if i%2 == 0 {
				_, body, err := s.cache.Manifest(t.Context(), "app/api", img.Digest.String())
				if err != nil || digest.FromBytes(body) != img.Digest {
					t.Error(err)
				}
				return
			}
			if err := s.cache.Prefetch(t.Context(), "app/api", img.Digest.String(), cache.PrefetchOptions{Progress: func(int64, int64) {}}); err != nil {
				t.Error(err)
			}
		})
	}
	time.AfterFunc(1200*time.Millisecond, func() { close(records.gate) }) // longer than a request waits for records
	all.Wait()
	_, r, err := s.cache.Blob(t.Context(), "app/api", img.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if body, err := io.ReadAll(r); err != nil || digest.FromBytes(body) != img.Layers[0].Digest {
		t.Error(err)
	}
}

// lateCommits is a store that takes nothing over before the process has to end.
type lateCommits struct{ *store.Mem }

func (l lateCommits) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
	s, err := l.Mem.Spool(ctx, repo, want)
	return lateSpool{s}, err
}

type lateSpool struct{ store.Spool }

func (lateSpool) Commit(ctx context.Context, _ store.Info) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// A commit that is given up at the end is no failure of the store.
func TestCommitGivenUpAtTheEnd(t *testing.T) {
	var log lines
	s := newStory(t, func(s *story) {
		s.cache.Store = lateCommits{&store.Mem{}}
		s.cache.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.wantManifest("app/api", "v1", img)
	s.wantBlob("app/api", img.Layers[0].Digest)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.cache.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	if err := s.cache.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "level=ERROR") || s.cache.Stats().StoreErrors != 0 {
		t.Errorf("%d errors of the store:\n%s", s.cache.Stats().StoreErrors, log.String())
	}
}
