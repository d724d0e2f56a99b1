package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// listener collects what Client.Observe is told.
type listener struct {
	*side
	mu    sync.Mutex
	calls []upstream.Call
}

// listen has the client of s tell what it does.
func listen(s *side) *listener {
	l := &listener{side: s}
	s.client.Observe = func(c upstream.Call) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.calls = append(l.calls, c)
	}
	return l
}

// all returns what was told since the last time.
func (l *listener) all() []upstream.Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls
	l.calls = nil
	return calls
}

// wantCall checks that one call was told, which is like c in all but Source, Err and
// Duration, and that it tells no secret. It returns that call.
func (l *listener) wantCall(c upstream.Call) upstream.Call {
	l.Helper()
	calls := l.all()
	if len(calls) != 1 {
		l.Fatalf("told of %d calls, want one: %+v", len(calls), calls)
	}
	got := calls[0]
	if got.Source != (upstream.Source{Rule: "rule", Host: l.up.Host(), Repository: "a"}) || got.Duration <= 0 || got.Duration > time.Minute {
		l.Errorf("%+v", got)
	}
	like := got
	like.Source, like.Err, like.Duration = upstream.Source{}, nil, 0
	if like != c {
		l.Errorf("told of %+v, want %+v", like, c)
	}
	text := fmt.Sprintf("%+v", got)
	if got.Err != nil {
		text += got.Err.Error()
	}
	for _, secret := range []string{"hunter2", "sig=", "token-"} {
		if strings.Contains(text, secret) {
			l.Errorf("%q stands in %s", secret, text)
		}
	}
	return got
}

// ok is wantCall for a call without an error.
func (l *listener) ok(err error, c upstream.Call) {
	l.Helper()
	if got := l.wantCall(c); err != nil || got.Err != nil {
		l.Errorf("%v, told of %v", err, got.Err)
	}
}

// fails is wantCall for a call with an error, which is told as it is.
func (l *listener) fails(err error, c upstream.Call) {
	l.Helper()
	if got := l.wantCall(c); err == nil || got.Err != err {
		l.Errorf("%v, told of %v", err, got.Err)
	}
}

func TestEachCallIsTold(t *testing.T) {
	s := newSide(t)
	l := listen(s)
	img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 100<<10))
	r := s.repo("a")
	layer := img.Layers[0]

	_, err := r.Resolve(t.Context(), "v1")
	l.ok(err, upstream.Call{Op: upstream.OpResolve, Reference: "v1", Status: 200})
	_, _, err = r.Manifest(t.Context(), img.Digest.String())
	l.ok(err, upstream.Call{Op: upstream.OpManifest, Reference: img.Digest.String(), Status: 200, Bytes: img.Size})
	_, err = r.StatBlob(t.Context(), layer.Digest)
	l.ok(err, upstream.Call{Op: upstream.OpStatBlob, Reference: layer.Digest.String(), Status: 200})

	b, err := r.Blob(t.Context(), layer.Digest, 10, 50)
	if calls := l.all(); len(calls) != 0 {
		t.Errorf("told of a blob before it was closed: %+v", calls)
	}
	s.read(b, err)
	_ = b.Close() // once more
	l.ok(nil, upstream.Call{Op: upstream.OpBlob, Reference: layer.Digest.String(), Status: 206, Bytes: 50})

	tags, _ := upstream.As[upstream.TagLister](r)
	page, err := tags.Tags(t.Context(), nil)
	if got := l.all(); err != nil || len(page.Tags) != 1 || len(got) != 1 || got[0].Op != upstream.OpTags || got[0].Reference != "" || got[0].Bytes == 0 {
		t.Errorf("%+v, %v, told of %+v", page, err, got)
	}
	referrers, _ := upstream.As[upstream.ReferrerLister](r)
	_, err = referrers.Referrers(t.Context(), img.Digest, nil)
	if got := l.all(); err != nil || len(got) != 1 || got[0].Op != upstream.OpReferrers || got[0].Reference != img.Digest.String() || got[0].Retries != 0 {
		t.Errorf("%v, told of %+v", err, got)
	}
	conditional, _ := upstream.As[upstream.Conditional](r)
	_, _, err = conditional.ManifestUnless(t.Context(), "v1", img.Digest)
	l.fails(err, upstream.Call{Op: upstream.OpManifest, Reference: "v1", Status: 304})
}

func TestRetriesAreTold(t *testing.T) {
	s := newSide(t)
	l := listen(s)
	img := s.up.AddImage("a", "v1", nil)
	manifest := func(who auth.Authenticator, retries int) {
		t.Helper()
		_, _, err := s.as("rule", "a", who).Manifest(t.Context(), "v1")
		l.ok(err, upstream.Call{Op: upstream.OpManifest, Reference: "v1", Status: 200, Bytes: img.Size, Retries: retries})
	}
	s.up.RequireLogin(users, nil)
	who := alice()
	manifest(who, 0) // the first token
	manifest(who, 0)
	s.up.ForgetTokens()
	manifest(who, 1) // a token that is refused
	manifest(&renewer{keeper: keeper{cred: password("alice", "old")}, next: password("alice", "hunter2")}, 1)
	s.up.RequireBasic(users)
	manifest(&renewer{keeper: keeper{cred: password("alice", "older")}, next: password("alice", "hunter2")}, 1)

	s.up.RequireLogin(map[string]string{"alice": "another"}, nil)
	_, _, err := s.as("rule", "a", &renewer{keeper: keeper{cred: password("alice", "1")}, next: password("alice", "2")}).Manifest(t.Context(), "v1")
	l.fails(err, upstream.Call{Op: upstream.OpManifest, Reference: "v1", Status: 401, Retries: 1})

	s = newSide(t)
	l = listen(s)
	img = s.up.AddImage("a", "v1", nil)
	s.up.Fail(upstreamtest.Fault{Kind: "tags", Times: 2, Status: 405})
	tags, _ := upstream.As[upstream.TagLister](s.repo("a"))
	_, err = tags.Tags(t.Context(), url.Values{"n": {"10000"}})
	if got := l.all(); err != nil || len(got) != 1 || got[0].Retries != 2 || got[0].Status != 200 {
		t.Errorf("%v, told of %+v", err, got)
	}
	s.up.NoReferrers()
	referrers, _ := upstream.As[upstream.ReferrerLister](s.repo("a"))
	_, err = referrers.Referrers(t.Context(), img.Digest, nil)
	l.ok(err, upstream.Call{Op: upstream.OpReferrers, Reference: img.Digest.String(), Status: 404, Retries: 1})
}

// A redirect is part of a call, and no retry.
func TestRedirectsAreOneCall(t *testing.T) {
	s := newSide(t)
	l := listen(s)
	img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 100<<10))
	s.up.RequireLogin(users, nil)
	s.who = alice()
	store, err := s.up.RedirectBlobs()
	if err != nil {
		t.Fatal(err)
	}
	layer := img.Layers[0]
	s.read(s.repo("a").Blob(t.Context(), layer.Digest, 0, -1))
	l.ok(nil, upstream.Call{Op: upstream.OpBlob, Reference: layer.Digest.String(), Status: 200, Bytes: layer.Size})
	store.Stop()
	_, err = s.repo("a").Blob(t.Context(), layer.Digest, 0, -1)
	l.fails(err, upstream.Call{Op: upstream.OpBlob, Reference: layer.Digest.String()})
}

func TestFailuresAreTold(t *testing.T) {
	s := newSide(t)
	l := listen(s)
	d := s.up.AddBlob("a", []byte("content"))
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Times: 1, Status: 503})
	_, _, err := s.repo("a").Manifest(t.Context(), "v1")
	l.fails(err, upstream.Call{Op: upstream.OpManifest, Reference: "v1", Status: 503})
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Times: 1, Status: 405})
	_, err = s.repo("a").Resolve(t.Context(), "v1")
	l.fails(err, upstream.Call{Op: upstream.OpResolve, Reference: "v1", Status: 405}) // ErrIncomplete
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Times: 1, ShiftRange: 2})
	_, err = s.repo("a").Blob(t.Context(), d, 1, -1)
	l.fails(err, upstream.Call{Op: upstream.OpBlob, Reference: d.String(), Status: 206})

	_, _, err = s.as("rule", "a", &keeper{err: &auth.DeniedError{Reason: "x"}}).Manifest(t.Context(), "v1")
	l.fails(err, upstream.Call{Op: upstream.OpManifest, Reference: "v1"})

	s.up.Fail(upstreamtest.Fault{Hang: true})
	ctx, leave := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer leave()
	_, _, err = s.repo("a").Manifest(ctx, "v1")
	l.fails(err, upstream.Call{Op: upstream.OpManifest, Reference: "v1"})

	s.up.Stop()
	_, _, err = s.repo("a").Manifest(t.Context(), "v1")
	l.fails(err, upstream.Call{Op: upstream.OpManifest, Reference: "v1"})
	if s.want(err, upstream.Unreachable); !errors.Is(err, upstream.Unreachable) {
		t.Error(err)
	}
}

// What asks nothing, since no upstream could answer it, is not told.
func TestImpossibleCallsAreNotTold(t *testing.T) {
	s := newSide(t)
	l := listen(s)
	r := s.repo("a")
	d := digest.FromString("x")
	_, err1 := r.Resolve(t.Context(), "no tag")
	_, _, err2 := r.Manifest(t.Context(), "")
	_, err3 := r.Blob(t.Context(), "md5:x", 0, -1)
	_, err4 := r.Blob(t.Context(), d, 0, 0)
	_, err5 := r.StatBlob(t.Context(), "")
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err == nil {
			t.Error("an impossible call has no error")
		}
	}
	if calls := l.all(); len(calls) != 0 {
		t.Errorf("told of %+v", calls)
	}
}

func TestBodiesThatEndEarly(t *testing.T) {
	s := newSide(t)
	l := listen(s)
	d := s.up.AddBlob("a", make([]byte, 1<<20))
	open := func(ctx context.Context) upstream.Body {
		b, err := s.repo("a").Blob(ctx, d, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := open(t.Context())
	if _, err := io.ReadFull(b, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	_, _ = b.Close(), b.Close()
	l.ok(nil, upstream.Call{Op: upstream.OpBlob, Reference: d.String(), Status: 200, Bytes: 1000})

	s.up.Fail(upstreamtest.Fault{Times: 1, Cut: 3000})
	b = open(t.Context())
	n, err := io.Copy(io.Discard, b)
	_ = b.Close()
	if err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
	l.fails(err, upstream.Call{Op: upstream.OpBlob, Reference: d.String(), Status: 200, Bytes: n})

	s.up.Fail(upstreamtest.Fault{Times: 1, Stall: 3000})
	ctx, leave := context.WithCancel(t.Context())
	b = open(ctx)
	if _, err := io.ReadFull(b, make([]byte, 3000)); err != nil {
		t.Fatal(err)
	}
	leave()
	_, err = b.Read(make([]byte, 1))
	_ = b.Close()
	s.want(err, upstream.Unreachable)
	l.fails(err, upstream.Call{Op: upstream.OpBlob, Reference: d.String(), Status: 200, Bytes: 3000})
}

// A body may be closed while it is read, and calls may go on at the same time.
func TestCallsAtTheSameTime(t *testing.T) {
	s := newSide(t)
	l := listen(s)
	s.up.RequireLogin(users, nil)
	s.who = alice()
	d := s.up.AddBlob("a", make([]byte, 1<<20))
	const crowd = 16
	var wg sync.WaitGroup
	for range crowd {
		wg.Go(func() {
			b, err := s.repo("a").Blob(t.Context(), d, 0, -1)
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { _, _ = io.Copy(io.Discard, b) })
			_ = b.Close()
		})
	}
	wg.Wait()
	if calls := l.all(); len(calls) != crowd {
		t.Errorf("told of %d calls, want %d", len(calls), crowd)
	}
}

// An observer may use the Client itself.
func TestAnObserverMayAsk(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	var ops []upstream.Op
	s.client.Observe = func(c upstream.Call) {
		ops = append(ops, c.Op)
		if c.Op == upstream.OpManifest {
			_, _ = s.repo("a").Resolve(t.Context(), "v1")
		}
	}
	if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil || len(ops) != 2 {
		t.Errorf("%v, told of %v", err, ops)
	}
}
