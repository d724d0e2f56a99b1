package cache_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// impatient is a cache whose upstream takes longer than its callers wait.
type impatient struct {
	*story
	img    upstreamtest.Image
	absent ocispec.Descriptor // what only the upstream has
	shared digest.Digest      // what another repository has here
}

const slowUpstream = 150 * time.Millisecond

func newImpatient(t *testing.T) *impatient {
	s := &impatient{story: newStory(t)}
	s.img = s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	other := s.up.AddImage("team/other", "v1", [][]byte{upstreamtest.Bytes(9, 5000)})
	s.pull("app/api", "v1", s.img)
	s.pull("app/other", "v1", other)
	s.settle()
	s.shared = other.Layers[0].Digest
	s.up.AddBlob("team/api", s.up.Blob("team/other", s.shared))
	blob := upstreamtest.Bytes(10, 3000)
	s.absent = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: s.up.AddBlob("team/api", blob), Size: int64(len(blob))}
	s.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 700))
	for deadline := time.Now().Add(time.Minute); s.up.Open() > 0; time.Sleep(time.Millisecond) { // polls a condition
		if time.Now().After(deadline) {
			s.Fatalf("%d requests of the set-up do not end", s.up.Open())
		}
	}
	s.up.Reset()
	s.up.Fail(upstreamtest.Fault{Latency: slowUpstream})
	return s
}

// wantNoTrouble fails unless the repository itself is asked at once and answers.
func (s *impatient) wantNoTrouble(after string) {
	s.Helper()
	deadline := time.Now().Add(time.Minute)
	for s.up.Open() > 0 {
		if time.Now().After(deadline) {
			s.Fatalf("%s: %d questions do not end", after, s.up.Open())
		}
		time.Sleep(time.Millisecond) // polls a condition; the deadline is the failure
	}
	if s.up.Count("", "", "") == 0 {
		s.Errorf("%s: the upstream was not asked, so this shows nothing", after)
	}
	s.up.Heal()
	next := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1234))
	r := s.manifest("app/api", "v1")
	if string(r.body) != string(next.Manifest) || strings.Contains(r.Header.Get("Cache-Status"), "stale") {
		s.Errorf("after %s: %d, %q", after, r.StatusCode, r.Header.Get("Cache-Status"))
	}
}

// expiring is a context whose deadline passes as soon as the upstream is being asked.
type expiring struct {
	context.Context
	done     chan struct{}
	deadline time.Time
}

// expiring returns such a context, and what ends it.
func (s *impatient) expiring(ctx context.Context) (context.Context, context.CancelFunc) {
	e := &expiring{ctx, make(chan struct{}), time.Now().Add(slowUpstream / 5)}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for ctx.Err() == nil && s.up.Open() == 0 {
			time.Sleep(time.Millisecond) // polls a condition; the call's end is the failure
		}
		close(e.done)
	}()
	return e, cancel
}

func (e *expiring) Deadline() (time.Time, bool) { return e.deadline, true }

func (e *expiring) Done() <-chan struct{} { return e.done }

func (e *expiring) Err() error {
	select {
	case <-e.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// verbs are the Go methods that take a caller's context.
func (s *impatient) verbs() map[string]func(ctx context.Context) {
	read := func(ctx context.Context, d digest.Digest) {
		if _, r, err := s.cache.Blob(ctx, "app/api", d); err == nil {
			_, _ = io.Copy(io.Discard, r)
			_ = r.Close()
		}
	}
	return map[string]func(ctx context.Context){
		"Resolve a tag":      func(ctx context.Context) { _, _ = s.cache.Resolve(ctx, "app/api", "v1") },
		"Resolve a new tag":  func(ctx context.Context) { _, _ = s.cache.Resolve(ctx, "app/api", "v2") },
		"Resolve a digest":   func(ctx context.Context) { _, _ = s.cache.Resolve(ctx, "app/api", someDigest) },
		"Manifest by tag":    func(ctx context.Context) { _, _, _ = s.cache.Manifest(ctx, "app/api", "v2") },
		"Manifest by digest": func(ctx context.Context) { _, _, _ = s.cache.Manifest(ctx, "app/api", someDigest) },
		"Blob":               func(ctx context.Context) { read(ctx, s.absent.Digest) },
		"Blob of another":    func(ctx context.Context) { read(ctx, s.shared) },
		"Exists":             func(ctx context.Context) { _, _ = s.cache.Repository("app/api").Exists(ctx, s.absent) },
		"Prefetch":           func(ctx context.Context) { _ = s.cache.Prefetch(ctx, "app/api", "v2", cache.PrefetchOptions{}) },
	}
}

// requests are what an HTTP client asks.
func (s *impatient) requests() map[string][2]string {
	return map[string][2]string{
		"HEAD of a tag": {"HEAD", "manifests/v1"}, "GET of a tag": {"GET", "manifests/v2"},
		"HEAD of a digest": {"HEAD", "manifests/" + someDigest}, "GET of a digest": {"GET", "manifests/" + someDigest},
		"HEAD of a blob": {"HEAD", "blobs/" + s.absent.Digest.String()}, "GET of a blob": {"GET", "blobs/" + s.absent.Digest.String()},
		"GET of a blob of another": {"GET", "blobs/" + s.shared.String()},
		"tags":                     {"GET", "tags/list"}, "referrers": {"GET", "referrers/" + someDigest},
	}
}

// TestACallersDeadlineTellsNothing: a caller who gives too little time learns nothing
// about the upstream, and nobody else does: not even the repository that it asked for.
func TestACallersDeadlineTellsNothing(t *testing.T) {
	for name := range (&impatient{}).verbs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newImpatient(t)
			ctx, cancel := s.expiring(t.Context())
			defer cancel()
			s.verbs()[name](ctx)
			s.wantNoTrouble(name)
		})
	}
	for name := range (&impatient{}).requests() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newImpatient(t)
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // a middleware with a deadline
				ctx, cancel := s.expiring(r.Context())
				defer cancel()
				s.cache.ServeHTTP(w, r.WithContext(ctx))
			}))
			defer web.Close()
			q := s.requests()[name]
			req, err := http.NewRequestWithContext(t.Context(), q[0], web.URL+"/v2/app/api/"+q[1], nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := web.Client().Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			s.wantNoTrouble(name)
		})
	}
}

// TestAClientThatLeavesTellsNothing: nor does a caller who leaves while the upstream is
// being asked.
func TestAClientThatLeavesTellsNothing(t *testing.T) {
	leaves := func(t *testing.T, s *impatient, call func(ctx context.Context)) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for ctx.Err() == nil && s.up.Open() == 0 {
				time.Sleep(time.Millisecond) // polls a condition; the call's end is the failure
			}
			cancel()
		}()
		call(ctx)
	}
	for name := range (&impatient{}).verbs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newImpatient(t)
			leaves(t, s, s.verbs()[name])
			s.wantNoTrouble(name)
		})
	}
	for name := range (&impatient{}).requests() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newImpatient(t)
			before := len(s.outcomes())
			leaves(t, s, func(ctx context.Context) {
				q := s.requests()[name]
				req, err := http.NewRequestWithContext(ctx, q[0], s.web.URL+"/v2/app/api/"+q[1], nil)
				if err != nil {
					t.Fatal(err)
				}
				if resp, err := s.web.Client().Do(req); err == nil {
					_ = resp.Body.Close()
				}
			})
			for len(s.outcomes()) == before { // here it has not left before
				time.Sleep(time.Millisecond) // polls a condition; the test's deadline is the failure
			}
			s.wantNoTrouble(name)
		})
	}
}

// outcomes are those of the requests that have ended.
func (s *story) outcomes() []cache.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]cache.Outcome(nil), s.seen...)
}
