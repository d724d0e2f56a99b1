package cache_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// database is a Matcher that fails for a while.
type database struct {
	*rule.Set
	mu   sync.Mutex
	fail error
}

func (d *database) set(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

func (d *database) down() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fail
}

func (d *database) Match(ctx context.Context, repository string) (*rule.Match, error) {
	if err := d.down(); err != nil {
		return nil, err
	}
	return d.Set.Match(ctx, repository)
}

func (d *database) MatchSource(ctx context.Context, host, repository string) (*rule.Match, error) {
	if err := d.down(); err != nil {
		return nil, err
	}
	return d.Set.MatchSource(ctx, host, repository)
}

// TestRulesThatCannotBeRead: what is stored is served for the names that are known;
// the rest is told to come back, with its name. The upstream is not asked, since the
// rule may be gone.
func TestRulesThatCannotBeRead(t *testing.T) {
	var db *database
	s := newStory(t, func(s *story) {
		db = &database{Set: s.rules}
		s.cache.Rules = db
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	s.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 500))
	s.pull("app/api", "v1", img)
	s.settle()
	ns := "/v2/team/api/manifests/v1?ns=" + s.up.Host()
	s.get(ns)
	s.get("/v2/own/x/manifests/v1") // of which the rules say that none covers it
	s.up.Reset()
	db.set(errors.New("hunter2: connection to the database refused"))
	s.pull("app/api", "v1", img)
	s.wantManifest("app/api", img.Digest.String(), img)
	if r := s.wantManifest("app/api", "v1", img); !strings.Contains(r.Header.Get("Cache-Status"), "fwd=stale") || !strings.Contains(r.Header.Get("Warning"), "rules cannot be read") {
		t.Errorf("%v does not say that it is stale", r.Header)
	}
	if r := s.get(ns); r.StatusCode != 200 {
		t.Errorf("by ns: %d %s", r.StatusCode, r.body)
	}
	for path, name := range map[string]string{
		"/v2/app/api/manifests/v2": "app/api", "/v2/app/api/blobs/" + someDigest: "app/api", "/v2/app/api/manifests/" + someDigest: "app/api", "/v2/app/api/tags/list": "app/api",
		"/v2/app/new/manifests/v1": "app/new", "/v2/own/x/manifests/v1": "own/x", "/v2/team/other/manifests/v1?ns=" + s.up.Host(): "team/other",
	} {
		r := s.get(path)
		s.wantError(r, 503, "UNKNOWN")
		if r.Header.Get("Retry-After") == "" || !strings.Contains(string(r.body), "'"+name+"'") || strings.Contains(string(r.body), "hunter2") {
			t.Errorf("%s: %v %s", path, r.Header, r.body)
		}
	}
	if r := s.do("HEAD", "/v2/app/api/blobs/"+someDigest); r.StatusCode != 503 {
		t.Errorf("HEAD of a blob: %d", r.StatusCode)
	}
	if _, _, err := s.cache.Manifest(t.Context(), "app/new", "v1"); err == nil || !strings.Contains(err.Error(), "database") {
		t.Errorf("a Go caller gets %v, want the cause too", err)
	}
	s.wantUpstream(nil)
	db.set(nil)
	next := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
	s.wantManifest("app/api", "v1", next)
	// A rule that is gone is gone, also when the rules cannot be read afterwards.
	if err := s.rules.Delete("team"); err != nil {
		t.Fatal(err)
	}
	s.manifest("app/api", "v1")
	db.set(errors.New("down again"))
	s.wantError(s.manifest("app/api", "v1"), 503, "UNKNOWN")
}

// A download goes on over a moment in which the rules cannot be read.
func TestDownloadWhileTheRulesCannotBeRead(t *testing.T) {
	var db *database
	s := newStory(t, func(s *story) {
		db = &database{Set: s.rules}
		s.cache.Rules = db
	})
	layer := s.oneBlob(layerSize)
	s.up.Pace(32 * mib)
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Cut: layerSize / 2, Times: 1})
	done := make(chan reply, 1)
	go func() { done <- s.blob("app/api", layer) }()
	for s.up.BlobBytes(layer) == 0 {
		time.Sleep(time.Millisecond) // polls a condition; the test's deadline is the failure
	}
	db.set(errors.New("down"))
	for s.up.BlobBytes(layer) < layerSize/2 {
		time.Sleep(time.Millisecond)
	}
	time.AfterFunc(300*time.Millisecond, func() { db.set(nil) })
	if r := <-done; r.err != nil || digest.FromBytes(r.body) != layer {
		t.Errorf("%d, %d bytes, %v", r.StatusCode, len(r.body), r.err)
	}
}

// An Opener that fails hides nothing that is stored, and is asked again.
func TestOpenerThatFails(t *testing.T) {
	var fail error
	var mu sync.Mutex
	set := func(err error) { mu.Lock(); defer mu.Unlock(); fail = err }
	s := newStory(t, func(s *story) {
		s.cache.Upstream = opener{s.up.Client(), func(r upstream.Repository) (upstream.Repository, error) {
			mu.Lock()
			defer mu.Unlock()
			return r, fail
		}}
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/api", "v1", img)
	s.settle()
	set(errors.New("hunter2: no such identity"))
	s.replace(rule.Rule{}) // another generation: it is opened anew
	r := s.wantManifest("app/api", "v1", img)
	if !strings.Contains(r.Header.Get("Cache-Status"), "fwd=stale") {
		t.Errorf("%v", r.Header)
	}
	s.pullBlobs("app/api", img)
	r = s.manifest("app/api", "v2")
	s.wantError(r, 500, "UNKNOWN")
	wantSentence(t, "not stored", message(r), "cannot be opened", "'team'", "team/api")
	set(nil)
	next := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
	s.wantManifest("app/api", "v1", next)
}

// With Next, a name that cannot be judged is not Next's.
func TestRulesThatCannotBeReadBesideNext(t *testing.T) {
	db := &database{Set: &rule.Set{}}
	db.set(errors.New("down"))
	next := 0
	c := &cache.Cache{Rules: db, Next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { next++ })}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v2/app/api/manifests/v1", nil))
	if w.Code != 503 || next != 0 {
		t.Errorf("%d, Next was asked %d times", w.Code, next)
	}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
