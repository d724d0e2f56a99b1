package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

type traceKey struct{}

// traced notes the trace of each request to the upstream, and whether its context ends
// with that of the client.
type traced struct {
	upstream.Repository
	mu    *sync.Mutex
	calls *[]call
}

type call struct {
	op    string
	trace any
	ctx   context.Context
}

func (r traced) note(ctx context.Context, op string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.calls = append(*r.calls, call{op, ctx.Value(traceKey{}), ctx})
}

func (r traced) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	r.note(ctx, "resolve")
	return r.Repository.Resolve(ctx, reference)
}

func (r traced) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	r.note(ctx, "manifest")
	return r.Repository.Manifest(ctx, reference)
}

func (r traced) Blob(ctx context.Context, d digest.Digest, offset, length int64) (upstream.Body, error) {
	r.note(ctx, "blob")
	return r.Repository.Blob(ctx, d, offset, length)
}

func (r traced) StatBlob(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	r.note(ctx, "stat")
	return r.Repository.StatBlob(ctx, d)
}

func (r traced) Unwrap() upstream.Repository { return r.Repository }

// tracedOpener opens traced repositories.
type tracedOpener struct {
	upstream.Opener
	mu    sync.Mutex
	calls []call
}

func (o *tracedOpener) Open(s upstream.Source, a auth.Authenticator) (upstream.Repository, error) {
	r, err := o.Opener.Open(s, a)
	return traced{r, &o.mu, &o.calls}, err
}

// take returns what was noted since the last take.
func (o *tracedOpener) take() []call {
	o.mu.Lock()
	defer o.mu.Unlock()
	calls := o.calls
	o.calls = nil
	return calls
}

// give puts a call back.
func (o *tracedOpener) give(c call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, c)
}

// TestValuesReachTheUpstream: requests to the upstream have the values of the context of
// the client's request that began them, and neither its deadline nor its end; so have
// those of the copy that a pull began.
func TestValuesReachTheUpstream(t *testing.T) {
	c, up := cachetest.New(t)
	o := &tracedOpener{Opener: c.Upstream}
	c.Upstream = o
	c.Limits.Segments = 1 // or an upstream that is silent for a while is asked once more
	up.AddImage("team/api", "v1", upstreamtest.Layers(1, 300<<10))
	ask := func(method, path, op string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), traceKey{}, method+path), time.Minute)
		resp, err := get(ctx, c, method, "/v2/hub/team/api/"+path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		cancel()
		found := false
		for _, call := range o.take() {
			if call.op != op {
				o.give(call) // the copy's
				continue
			}
			found = true
			deadline, _ := call.ctx.Deadline()
			if call.trace != method+path || time.Until(deadline) > 50*time.Second {
				t.Errorf("%s %s: %s has the values of %v, and until %v", method, path, call.op, call.trace, deadline)
			}
		}
		if !found {
			t.Errorf("%s %s: no %s", method, path, op)
		}
	}
	ask("HEAD", "manifests/v1", "resolve")
	ask("GET", "manifests/v1", "manifest")
	if err := c.Idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	copies := o.take()
	for _, call := range copies {
		if call.op != "blob" || call.trace != "GETmanifests/v1" {
			t.Errorf("the copy's %s has the values of %v", call.op, call.trace)
		}
	}
	if len(copies) != 2 {
		t.Errorf("the copy asked %d times", len(copies))
	}
	ask("GET", "manifests/v1", "resolve")
	ask("HEAD", "manifests/sha256:"+strings.Repeat("0", 64), "resolve")
	blob := up.AddBlob("team/api", upstreamtest.Bytes(1, 300<<10))
	ask("HEAD", "blobs/"+blob.String(), "stat")
	ask("GET", "blobs/"+blob.String(), "blob")
}

// TestDebugLog: at debug level the log tells the story of a pull.
func TestDebugLog(t *testing.T) {
	c, up := cachetest.New(t)
	var log lines
	c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	resp, err := get(t.Context(), c, "GET", "/v2/hub/team/api/manifests/v1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, resp.Body) // it ends when the handler has returned
	_ = resp.Body.Close()
	if err := errors.Join(err, c.Idle(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := c.Shutdown(t.Context()); err != nil { // which waits for those that write the log
		t.Fatal(err)
	}
	for _, line := range []string{
		"the upstream was asked", "op=manifest reference=v1", "msg=answered", `cache="fwd=miss; fwd-status=200"`,
		"a copy begins", "a download connects to the upstream", "a copy is done",
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log does not say %s:\n%s", line, log.String())
		}
	}
}

// TestOutcomes: what Observe receives of the table of answers.
func TestOutcomes(t *testing.T) {
	c, up := cachetest.New(t)
	c.Limits.StaleTimeout = time.Minute // a slow answer is no other answer
	seen := make(chan cache.Outcome, 1)
	agents := make(chan string, 1)
	c.Observe = func(r *http.Request, o cache.Outcome) { seen <- o; agents <- r.UserAgent() }
	up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	for _, step := range []struct {
		path, want string
		before     func()
	}{
		{"/v2/", " 0 ", nil},
		{"/v2/hub/team/api/manifests/v1", "miss 200 ", nil},
		{"/v2/hub/team/api/manifests/v1", "checked 200 unchanged", func() {
			if err := c.Idle(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
		{"/v2/hub/team/api/manifests/v9", "miss 404 ", nil},
		{"/v2/hub/team/api/manifests/v1", "stale 503 ", func() { up.Fail(upstreamtest.Fault{Status: 503}) }},
	} {
		if step.before != nil {
			step.before()
		}
		resp, err := get(t.Context(), c, "GET", step.path, "User-Agent", "somebody")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		o := <-seen
		if got := fmt.Sprint(o.Result, " ", o.UpstreamStatus, " ", o.Detail); got != step.want || <-agents != "somebody" {
			t.Errorf("%s: %q (%s), want %q", step.path, got, o.CacheState, step.want)
		}
	}
	if n := c.Stats().BytesFetched; n < 1000 {
		t.Errorf("%d bytes were fetched", n)
	}
}
