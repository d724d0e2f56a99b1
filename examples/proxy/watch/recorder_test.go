package watch_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// story is a cache that a Recorder watches, and its upstream.
type story struct {
	*testing.T
	up  *upstreamtest.Registry
	rec *watch.Recorder
	c   *cache.Cache
}

func newStory(t *testing.T, rec *watch.Recorder) *story {
	up := upstreamtest.NewRegistry(t)
	rules, err := rule.NewSet(rule.Rule{Name: "local", Source: up.Host() + "/*", Target: "local/*"})
	if err != nil {
		t.Fatal(err)
	}
	c := &cache.Cache{
		Rules: rules, Observe: rec.Request,
		Upstream: &upstream.Client{Hosts: map[string]upstream.Host{up.Host(): {PlainHTTP: true}}, Observe: rec.Call},
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Shutdown(t.Context()) })
	return &story{t, up, rec, c}
}

// get sends a request through the cache and returns the status.
func (s *story) get(path string) int {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "http://cache.example.com/v2/"+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	resp, err := s.c.Transport().RoundTrip(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		s.Error(err)
	}
	return resp.StatusCode
}

// TestAPullAndItsReasons: what a person reads after a cold pull, a warm one, a pull while
// the source is down, and a pull of what does not exist.
func TestAPullAndItsReasons(t *testing.T) {
	s := newStory(t, &watch.Recorder{})
	img := s.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	other := s.up.AddImage("team/other", "v1", nil)
	layer, alone := "local/team/app/blobs/"+img.Layers[0].Digest.String(), "local/team/other/blobs/"+other.Config.Digest.String()
	for _, step := range []struct {
		path   string
		before func()
		status int
		want   watch.Outcome
		why    string
	}{
		{"local/team/app/manifests/v1", nil, 200, watch.Miss, "so it came from the source and is copied"},
		{alone, nil, 200, watch.Miss, "sent while it was downloaded"},
		{layer, func() { s.idle() }, 200, watch.Hit, "It is stored here"},
		{"local/team/app/manifests/v1", nil, 200, watch.Checked, "the tag has not moved"},
		{"local/team/app/manifests/v2", nil, 404, watch.Absent, "the source does not have it"},
		{"elsewhere/app/manifests/v1", nil, 404, watch.Absent, "No rule covers this name"},
		{"local/team/app/manifests/v1", func() { s.up.Stop() }, 200, watch.Stale, "the source cannot be reached"},
		{"local/team/app/manifests/v3", nil, 502, watch.Failed, "the source cannot be reached"},
	} {
		if step.before != nil {
			step.before()
		}
		if got := s.get(step.path); got != step.status {
			t.Errorf("%s: status %d, want %d", step.path, got, step.status)
		}
		pulls := s.rec.Pulls(watch.Filter{Kinds: []watch.Kind{watch.Images, watch.Blobs, watch.Strangers}, Most: 1})
		if len(pulls) != 1 || pulls[0].Outcome != step.want || !strings.Contains(pulls[0].Why, step.why) || pulls[0].Status != step.status {
			t.Errorf("%s: %+v, want %s since %q", step.path, pulls, step.want, step.why)
		}
	}
}

// idle waits for the copies.
func (s *story) idle() {
	s.Helper()
	if err := s.c.Idle(s.Context()); err != nil {
		s.Error(err)
	}
}
