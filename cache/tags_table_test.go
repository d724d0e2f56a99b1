package cache_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestTagTable walks what is served after each answer to "has the tag moved",
// with and without a complete copy.
func TestTagTable(t *testing.T) {
	for _, row := range []struct {
		name   string
		fault  upstreamtest.Fault
		cold   int    // status when nothing is stored
		code   string // and its code
		status string // of the upstream, in Cache-Status
	}{
		{"404", upstreamtest.Fault{Status: 404}, 404, "MANIFEST_UNKNOWN", "404"},
		{"401", upstreamtest.Fault{Status: 401}, 403, "DENIED", "401"},
		{"403", upstreamtest.Fault{Status: 403}, 403, "DENIED", "403"},
		{"451", upstreamtest.Fault{Status: 451}, 403, "DENIED", "451"},
		{"400", upstreamtest.Fault{Status: 400}, 403, "DENIED", "400"},
		{"429", upstreamtest.Fault{Status: 429, RetryAfter: "7"}, 429, "TOOMANYREQUESTS", "429"},
		{"500", upstreamtest.Fault{Status: 500}, 502, "UNKNOWN", "500"},
		{"503", upstreamtest.Fault{Status: 503}, 502, "UNKNOWN", "503"},
		{"hang", upstreamtest.Fault{Hang: true}, 504, "UNKNOWN", "timeout"},
	} {
		row.fault.Kind = "manifest"
		t.Run(row.name, func(t *testing.T) {
			storyInBubble(t, func(s *story) {
				img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
				s.pull("app/api", "v1", img)
				s.settle()
				s.up.Fail(row.fault)
				for range 2 {
					r := s.wantManifest("app/api", "v1", img)
					if cs := r.Header.Get("Cache-Status"); !strings.Contains(cs, "fwd=stale") || !strings.Contains(cs, row.status) {
						s.Errorf("Cache-Status %q, want fwd=stale and %s", cs, row.status)
					}
					if r.took > 300*time.Millisecond {
						s.Errorf("a stored tag took %v", r.took)
					}
				}
				if row.name == "429" {
					if n := s.up.Count("HEAD", "manifest", ""); n != 1 {
						s.Errorf("a limited host was asked %d times, want once", n)
					}
				}
				s.wantBlob("app/api", img.Layers[0].Digest)
			}, func(s *story) {
				s.cache.Limits.StaleTimeout, s.cache.Limits.AnswerTimeout = 300*time.Millisecond, time.Second
			})
		})
		t.Run(row.name+" cold", func(t *testing.T) {
			storyInBubble(t, func(s *story) {
				s.up.Fail(row.fault)
				for range 2 {
					r := s.manifest("app/api", "v1")
					s.wantError(r, row.cold, row.code)
					if row.fault.RetryAfter != "" && r.Header.Get("Retry-After") == "" {
						s.Error("no Retry-After")
					}
					if !strings.Contains(string(r.body), "team/api") || !strings.Contains(string(r.body), "'team'") {
						s.Errorf("the error names neither source nor rule: %s", r.body)
					}
				}
			}, func(s *story) { s.cache.Limits.AnswerTimeout = time.Second })
		})
	}
	t.Run("refused", func(t *testing.T) {
		s := newStory(t)
		img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		s.pull("app/api", "v1", img)
		s.settle()
		s.up.Stop()
		s.pull("app/api", "v1", img)
		s.wantError(s.manifest("app/api", "v2"), 502, "UNKNOWN")
		if err := s.up.Restart(); err != nil {
			t.Fatal(err)
		}
		next := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		deadline := time.Now().Add(time.Minute)
		for string(s.manifest("app/api", "v1").body) != string(next.Manifest) {
			if time.Now().After(deadline) {
				t.Fatal("an upstream that is back is not noticed")
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

func TestNewDigestThatCannotBeHad(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/api", "v1", img)
	s.settle()
	next := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
	s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "manifest", Reference: next.Digest.String(), Status: 404})
	s.up.Reset()
	s.wantManifest("app/api", "v1", img)
	if n := s.up.Count("HEAD", "manifest", "v1"); n != 2 {
		t.Errorf("%d HEADs, want one more after the 404", n)
	}
}

func TestRequireAccessAndMaxStale(t *testing.T) {
	s := newStory(t)
	s.replace(rule.Rule{RequireAccess: true})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/api", "v1", img)
	s.settle()
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Status: 403})
	s.wantError(s.manifest("app/api", "v1"), 403, "DENIED")
	s.up.Heal()
	s.replace(rule.Rule{MaxStale: -1})
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Status: 500, Times: 1})
	s.wantError(s.manifest("app/api", "v1"), 502, "UNKNOWN")
}

// replace changes the story's rule, but not its name, source and target.
func (s *story) replace(r rule.Rule) {
	s.Helper()
	r.Name, r.Target = "team", "app/*"
	if r.Source == "" {
		r.Source = s.host() + "/team/*"
	}
	if err := s.rules.Replace(r); err != nil {
		s.Fatal(err)
	}
}

func TestFreshnessAsksNothing(t *testing.T) {
	s := newStory(t)
	s.replace(rule.Rule{Freshness: time.Hour})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/api", "v1", img)
	s.settle()
	s.up.Reset()
	for range 3 {
		s.pull("app/api", "v1", img)
	}
	s.wantUpstream(nil)
}

func TestErrorsOfPaths(t *testing.T) {
	s := newStory(t)
	for path, want := range map[string]string{
		"/v2/app/api/blobs/sha256:zz":       "400 DIGEST_INVALID",
		"/v2/APP/api/manifests/v1":          "400 NAME_INVALID",
		"/v2/app/api/manifests/.bad":        "404 MANIFEST_UNKNOWN",
		"/v2/other/api/manifests/v1":        "404 NAME_UNKNOWN",
		"/v2/app/api/manifests/v1?ns=x.com": "404 NAME_UNKNOWN",
		"/v2/app/api/manifests/nothing":     "404 MANIFEST_UNKNOWN",
	} {
		var status int
		var code string
		_, _ = fmt.Sscan(want, &status, &code)
		s.wantError(s.get(path), status, code)
	}
	s.wantError(s.do("PUT", "/v2/app/api/manifests/v1"), 405, "UNSUPPORTED")
	s.wantError(s.do("POST", "/v2/app/api/blobs/uploads/"), 405, "UNSUPPORTED")
	if r := s.get("/v2/"); r.StatusCode != 200 {
		t.Errorf("/v2/ answers %d", r.StatusCode)
	}
}
