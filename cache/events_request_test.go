package cache_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// told returns the events so far.
func (s *story) told() []webhook.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.events
	s.events = nil
	return all
}

// TestRequestOfEvents: receivers that build the name of an image from the host of
// the request can: it is the public name of the cache, or what the client asked for.
func TestRequestOfEvents(t *testing.T) {
	for name, c := range map[string]struct{ public, host, want string }{
		"public name":         {"cache.example.com", "10.0.0.7:5000", "cache.example.com"},
		"with a port":         {"cache.example.com:5000", "other.example.com", "cache.example.com:5000"},
		"the client's":        {"", "images.example.com:8443", "images.example.com:8443"},
		"an address":          {"", "[::1]:5000", "[::1]:5000"},
		"not what is no host": {"", "a b\"c", ""},
	} {
		s := newStory(t, func(s *story) { s.cache.Host = c.public })
		img := s.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
		get := func(path string) {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "http://placeholder"+path, nil)
			r.Host = c.host
			r.Header.Set("User-Agent", "docker/28.0 "+strings.Repeat("x", 1000))
			w := httptest.NewRecorder()
			s.cache.ServeHTTP(w, r)
			if w.Code != 200 {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
		}
		child := img.Children[0]
		get("/v2/app/api/manifests/v1")
		get("/v2/app/api/manifests/" + child.Digest.String())
		for _, l := range append(child.Layers, child.Config) {
			get("/v2/app/api/blobs/" + l.Digest.String())
		}
		s.settle()
		events := s.told()
		if len(events) != 3 {
			t.Fatalf("%s: %d events", name, len(events))
		}
		for _, ev := range events {
			switch {
			case c.want == "":
				if ev.Request != nil {
					t.Errorf("%s: %+v", name, ev.Request)
				}
			case ev.Request == nil || ev.Request.Host != c.want || ev.Request.Method != "GET" || ev.Request.ID == "" || !strings.HasPrefix(ev.Request.UserAgent, "docker/28.0") || len(ev.Request.UserAgent) > 256:
				t.Errorf("%s: %+v, want the host %s", name, ev.Request, c.want)
			}
		}
		if err := s.cache.Delete(t.Context(), "app/api", child.Digest.String()); err != nil {
			t.Fatal(err)
		}
		for _, ev := range s.told() {
			if (ev.Request != nil) != (c.public != "") || ev.Request != nil && (ev.Request.Host != c.public || ev.Request.Method != "DELETE") {
				t.Errorf("%s: deletion: %+v", name, ev.Request)
			}
		}
	}
}

// What a pull brings that no client asked for is told with the request of that pull,
// and a pull in Go with the public name alone.
func TestRequestOfWhatComesAlong(t *testing.T) {
	s := newStory(t, func(s *story) { s.cache.Host = "cache.example.com" })
	s.replace(everything)
	img := s.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
	s.up.AddArtifact("team/api", "", "application/signature", img, []byte("signed"))
	if r := s.get("/v2/app/api/manifests/v1", "User-Agent", "crane/1"); r.StatusCode != 200 {
		t.Fatal(r.StatusCode)
	}
	s.settle()
	events := s.told()
	if len(events) < 5 {
		t.Errorf("%d events", len(events))
	}
	for _, ev := range events {
		if ev.Request == nil || ev.Request.UserAgent != "crane/1" || ev.Request.Host != "cache.example.com" {
			t.Errorf("%s: %+v", ev.Subject(), ev.Request)
		}
	}
	s.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 500))
	if _, _, err := s.cache.Manifest(t.Context(), "app/api", "v2"); err != nil {
		t.Fatal(err)
	}
	s.settle()
	for _, ev := range s.told() {
		if ev.Request == nil || ev.Request.Host != "cache.example.com" || ev.Request.UserAgent != "" {
			t.Errorf("%s: %+v", ev.Subject(), ev.Request)
		}
	}
}
