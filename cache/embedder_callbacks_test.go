package cache_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// callback is a Matcher that asks the cache about itself.
type callback struct {
	rule.Matcher
	ask func()
}

func (c callback) Match(ctx context.Context, repository string) (*rule.Match, error) {
	c.ask()
	return c.Matcher.Match(ctx, repository)
}

// TestEmbeddersCodeMayCallBack fails by a deadlock if code of the embedder is
// called with a lock held that the cache's methods need.
func TestEmbeddersCodeMayCallBack(t *testing.T) {
	s := newStory(t, func(s *story) {
		c := s.cache
		ask := func() { c.Copies(); c.Stats() }
		c.Admit = func(context.Context, cache.Candidate) error { ask(); return nil }
		c.Authorize = func(*http.Request, cache.Access) error { ask(); return nil }
		c.Observe = func(*http.Request, cache.Outcome) { ask() }
		c.Events = webhook.SinkFunc(func(ctx context.Context, ev webhook.Event) error {
			ask()
			_, err := c.Explain(ctx, ev.Target.Repository, "v1")
			return err
		})
	})
	img := s.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64")
	s.wantManifest("app/api", "v1", img)
	s.pull("app/api", img.Children[0].Digest.String(), img.Children[0])
	s.settle()
	if n := s.cache.Stats().Copied; n != 2 {
		t.Errorf("%d manifests are complete, want 2", n)
	}
}

func TestMatcherMayCallBack(t *testing.T) {
	s := newStory(t, func(s *story) {
		c := s.cache
		c.Rules = callback{s.rules, func() { c.Copies() }}
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 20*mib))
	s.pull("app/api", "v1", img)
	s.settle()
}

func TestQueueOfCopiesIsBounded(t *testing.T) {
	s := newStory(t, func(s *story) { s.cache.Limits.MaxJobs = 3 })
	for i := range 8 { // indexes wait for a platform to be pulled
		img := s.up.AddMultiPlatform("team/api", fmt.Sprint("v", i), [][]byte{upstreamtest.Bytes(uint64(i), 100+i)}, "amd64")
		s.wantManifest("app/api", fmt.Sprint("v", i), img)
	}
	s.settle()
	if n, st := len(s.cache.Copies()), s.cache.Stats(); n != 3 || st.JobsDropped != 5 {
		t.Errorf("%d copies are known and %d were dropped, want 3 and 5", n, st.JobsDropped)
	}
}

func TestBrokenEndIsSeenOverHTTP2(t *testing.T) {
	s := newStory(t, onDir)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { _ = recover() }()
		s.cache.ServeHTTP(w, r)
	}))
	web.EnableHTTP2 = true
	web.StartTLS()
	t.Cleanup(web.Close)
	for _, noLength := range []bool{false, true} {
		layer := s.oneBlob(layerSize)
		if noLength {
			layer = s.oneBlob(layerSize + 1)
		}
		s.up.Heal()
		s.up.Pace(64 * mib)
		s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Flip: true, FlipAt: 5, NoLength: noLength})
		resp, err := web.Client().Get(web.URL + "/v2/app/api/blobs/" + layer.String())
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Fatalf("HTTP/%d", resp.ProtoMajor)
		}
		if err == nil && resp.StatusCode == 200 {
			t.Errorf("without length %v: a clean end after %d wrong bytes", noLength, n)
		}
	}
}
