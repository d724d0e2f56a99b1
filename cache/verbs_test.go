package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

var _ oras.ReadOnlyTarget = (*cache.Repository)(nil)

func TestGoVerbs(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 100<<10))
	ctx := t.Context()
	desc, err := s.cache.Resolve(ctx, "app/api", "v1")
	if err != nil || desc.Digest != img.Digest {
		t.Fatalf("Resolve: %v, %v", desc, err)
	}
	s.wantUpstream(map[string]int{"HEAD manifest": 1})
	desc, body, err := s.cache.Manifest(ctx, "app/api", "v1")
	if err != nil || !bytes.Equal(body, img.Manifest) || desc.MediaType != img.MediaType {
		t.Fatalf("Manifest: %v, %v", desc, err)
	}
	_, r, err := s.cache.Blob(ctx, "app/api", img.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil || digest.FromBytes(data) != img.Layers[0].Digest {
		t.Fatalf("Blob: %d bytes, %v", len(data), err)
	}
	_ = r.Close()
	s.settle()

	for _, call := range []func() error{
		func() error { _, _, err := s.cache.Manifest(ctx, "app/api", "none"); return err },
		func() error { _, _, err := s.cache.Blob(ctx, "app/api", digest.FromString("none")); return err },
		func() error { _, _, err := s.cache.Manifest(ctx, "else", "v1"); return err },
	} {
		e, ok := errors.AsType[*cache.Error](call())
		if !ok || e.Status != 404 {
			t.Errorf("%v, want a 404", e)
		}
	}
	if _, _, err := s.cache.Manifest(ctx, "NOT/valid", "v1"); err == nil {
		t.Error("a name that is not valid is no error")
	}
}

func TestOrasCopiesThroughTheCache(t *testing.T) {
	s := newStory(t)
	img := s.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 10<<10), "amd64", "arm64")
	dst := memory.New()
	desc, err := oras.Copy(t.Context(), s.cache.Repository("app/api"), "v1", dst, "v1", oras.DefaultCopyOptions)
	if err != nil || desc.Digest != img.Digest {
		t.Fatalf("%v, %v", desc, err)
	}
	ok, err := s.cache.Repository("app/api").Exists(t.Context(), img.Children[0].Layers[0])
	if !ok || err != nil {
		t.Errorf("Exists: %v, %v", ok, err)
	}
}

func TestPrefetchCopiesAllPlatforms(t *testing.T) {
	s := newStory(t)
	img := s.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(3, 10<<10), "amd64", "arm64")
	if err := s.cache.Prefetch(t.Context(), "app/api", "v1", cache.PrefetchOptions{}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	s.wantEvents("app/api:v1", "app/api@"+img.Digest.String(), "app/api@"+img.Children[0].Digest.String(), "app/api@"+img.Children[1].Digest.String())
	s.up.Stop()
	for _, c := range img.Children {
		s.pull("app/api", c.Digest.String(), c)
	}
	if err := s.cache.Prefetch(t.Context(), "app/other", "v1", cache.PrefetchOptions{}); err == nil {
		t.Error("a prefetch from an upstream that is down is no error")
	}
}

func TestDeleteMakesTheNextPullCopyAgain(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/api", "v1", img)
	s.settle()
	s.wantEvents("app/api:v1", "app/api@"+img.Digest.String())
	if err := s.cache.Delete(t.Context(), "app/api", img.Digest.String()); err != nil {
		t.Fatal(err)
	}
	s.wantEvents("delete app/api@" + img.Digest.String())
	s.up.Reset()
	s.pull("app/api", "v1", img)
	s.settle()
	s.wantEvents("app/api:v1", "app/api@"+img.Digest.String())
	if n := s.up.Count("GET", "manifest", "v1"); n != 1 {
		t.Errorf("%d GETs of the manifest after Delete, want 1", n)
	}
	if err := s.cache.Delete(t.Context(), "app/api", "v1"); err != nil {
		t.Fatal(err)
	}
	s.up.Stop()
	s.wantError(s.manifest("app/api", "v1"), 502, "UNKNOWN")
}

// later is a Copier that runs jobs when it is told to.
type later struct {
	mu   sync.Mutex
	jobs []cache.Job
}

func (l *later) Submit(_ context.Context, job cache.Job) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jobs = append(l.jobs, job)
	return nil
}

func TestCopierOfOnesOwn(t *testing.T) {
	l := &later{}
	storyInBubble(t, func(s *story) { // where the cache does not look for what is done before Copy has told it
		img := s.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64")
		s.wantManifest("app/api", "v1", img)
		s.wantManifest("app/api", img.Children[0].Digest.String(), img.Children[0])
		s.pullBlobs("app/api", img.Children[0])
		deadline := time.Now().Add(10 * time.Second)
		var last cache.Job
		for ; len(s.cache.Copies()) > 0; time.Sleep(time.Millisecond) {
			l.mu.Lock()
			jobs := l.jobs
			l.jobs = nil
			l.mu.Unlock()
			for _, job := range jobs {
				if err := s.cache.Copy(s.Context(), job); err != nil {
					s.Fatal(err)
				}
				last = job
			}
			if time.Now().After(deadline) {
				s.Fatalf("%+v", s.cache.Copies())
			}
		}
		s.wantEvents("app/api:v1", "app/api@"+img.Digest.String(), "app/api@"+img.Children[0].Digest.String())
		other := digest.FromString("x")
		former := last.Digest
		last.Digest = other
		if err := s.cache.Copy(s.Context(), last); err == nil {
			s.Error("a job whose data is that of another is done")
		}
		last.Data = bytes.ReplaceAll(last.Data, []byte(former), []byte(other))
		if err := s.cache.Copy(s.Context(), last); err == nil {
			s.Error("a job whose manifest is another is done")
		}
		last.Data = last.Data[1:]
		if err := s.cache.Copy(s.Context(), last); err == nil {
			s.Error("a job whose data cannot be read is done")
		}
	}, func(s *story) { s.cache.Copier = l })
}

func TestExplain(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	want := func(repo, ref, text string) {
		t.Helper()
		x, err := s.cache.Explain(t.Context(), repo, ref)
		if err != nil || !strings.Contains(x.Text, text) {
			t.Errorf("%s:%s: %q, %v; want %q", repo, ref, x.Text, err, text)
		}
	}
	want("app/api", "v1", "a pull streams")
	want("else/api", "v1", "no rule covers")
	s.pull("app/api", "v1", img)
	s.settle()
	want("app/api", "v1", "if the source says that the tag has not moved")
	want("app/api", img.Digest.String(), "is served")
	s.up.Stop()
	s.manifest("app/api", "v1")
	want("app/api", "v1", "cannot be asked")
	want("app/api", "v2", "a pull fails")
}

func TestZeroCache(t *testing.T) {
	s := newStory(t, func(s *story) { s.cache = &cache.Cache{} })
	s.wantError(s.manifest("app/api", "v1"), 404, "NAME_UNKNOWN")
	if r := s.get("/v2/"); r.StatusCode != 200 {
		t.Errorf("/v2/: %d", r.StatusCode)
	}
}

// plainStore hides every optional ability.
type plainStore struct{ store.Store }

func TestStoreWithoutAbilities(t *testing.T) {
	s := newStory(t, func(s *story) {
		s.cache.Store = plainStore{&store.Mem{}}
		s.cache.SpoolDir = s.TempDir()
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 300<<10))
	s.pull("app/api", "v1", img)
	s.settle()
	s.wantEvents("app/api:v1", "app/api@"+img.Digest.String())
	s.up.Stop()
	s.pull("app/api", "v1", img)
}

func TestDeniedAuthenticatorTellsItsReason(t *testing.T) {
	s := newStory(t)
	s.replace(rule.Rule{Auth: auth.FederatedIdentity{TenantID: "t", ClientID: "c"}})
	r := s.manifest("app/api", "v1")
	s.wantError(r, 403, "DENIED")
	if !strings.Contains(string(r.body), "federated identity") {
		t.Errorf("%s", r.body)
	}
	s.wantUpstream(nil)
}

func TestObserveTells(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/api", "v1", img)
	s.web.Close() // waits for the handlers, which tell after the client has everything
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) != 3 {
		t.Fatalf("%d outcomes, want 3", len(s.seen))
	}
	o := s.seen[2]
	if o.Status != 200 || o.Bytes != 1000 || o.Rule != "team" || o.Access.Kind != "blob" || o.Access.Repository != "app/api" || o.Reference != img.Layers[0].Digest.String() {
		t.Errorf("%+v", o)
	}
	if s.cache.Stats().Requests != 3 {
		t.Errorf("%+v", s.cache.Stats())
	}
}
