package cache_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// onlyCached asks for a path below app/api with Cache-Control.
func (c *clock) onlyCached(method, path, control string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, "/v2/app/api/"+path, nil)
	req.Header.Set("Cache-Control", control)
	w := httptest.NewRecorder()
	c.cache.ServeHTTP(w, req)
	return w
}

// wantNotCached checks that an answer is the 504 of only-if-cached.
func (c *clock) wantNotCached(w *httptest.ResponseRecorder, method, path string) {
	c.Helper()
	if w.Code != http.StatusGatewayTimeout || w.Header().Get("Cache-Status") != "pullthrough; detail=only-if-cached" {
		c.Errorf("%s %s: status %d, Cache-Status %q", method, path, w.Code, w.Header().Get("Cache-Status"))
	}
	if method == http.MethodHead {
		if !strings.Contains(w.Header().Get("Warning"), "only-if-cached") {
			c.Errorf("HEAD %s: Warning %q", path, w.Header().Get("Warning"))
		}
		return
	}
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || len(body.Errors) != 1 || body.Errors[0].Code != "UNKNOWN" || !strings.Contains(body.Errors[0].Message, "app/api") {
		c.Errorf("%s %s: %v: %s", method, path, err, w.Body)
	}
}

// wantUnasked checks that nothing reached the upstream, also not later.
func (c *clock) wantUnasked() {
	c.Helper()
	c.pass(time.Hour)
	for _, q := range c.up.Requests() {
		c.Errorf("the upstream was asked: %s %s", q.Method, q.Path)
	}
}

func TestOnlyIfCachedAsksNobody(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		for _, method := range []string{"GET", "HEAD"} {
			for _, path := range []string{"manifests/v1", "manifests/" + img.Digest.String(), "blobs/" + img.Layers[0].Digest.String(),
				"blobs/" + img.Config.Digest.String(), "tags/list", "tags/list?n=3", "referrers/" + img.Digest.String()} {
				c.wantNotCached(c.onlyCached(method, path, "no-transform, Only-If-Cached"), method, path)
			}
		}
		if w := httptest.NewRecorder(); true {
			req := httptest.NewRequest("GET", "/v2/other/api/manifests/v1", nil)
			req.Header.Set("Cache-Control", "only-if-cached")
			if c.cache.ServeHTTP(w, req); w.Code != http.StatusNotFound {
				t.Errorf("a repository that no rule covers: %d, want the usual 404", w.Code)
			}
		}
		c.wantUnasked()
	})
}

func TestOnlyIfCachedServesWhatIsStored(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		for _, path := range []string{"tags/list", "referrers/" + img.Digest.String()} {
			if status := c.status("GET", "/v2/app/api/"+path); status != http.StatusOK {
				t.Fatal(path, status)
			}
		}
		c.pass(time.Minute)
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.up.Reset()
		for _, method := range []string{"GET", "HEAD"} {
			for path, state := range map[string]string{
				"manifests/v1": "hit; detail=only-if-cached", "manifests/" + img.Digest.String(): "hit", "blobs/" + img.Layers[0].Digest.String(): "hit",
				"blobs/" + img.Config.Digest.String(): "hit", "tags/list": "hit; detail=only-if-cached", "tags/list?n=3": "hit; detail=only-if-cached",
				"referrers/" + img.Digest.String(): "hit; detail=only-if-cached",
			} {
				w := c.onlyCached(method, path, "only-if-cached")
				if w.Code != http.StatusOK || w.Header().Get("Cache-Status") != "pullthrough; "+state {
					t.Errorf("%s %s: status %d, Cache-Status %q, want %q", method, path, w.Code, w.Header().Get("Cache-Status"), state)
				}
				if warned := strings.Contains(w.Header().Get("Warning"), "only-if-cached"); warned != (state != "hit") {
					t.Errorf("%s %s: Warning %q", method, path, w.Header().Get("Warning"))
				}
			}
		}
		if w := c.onlyCached("GET", "manifests/v1", "only-if-cached"); w.Header().Get("Docker-Content-Digest") != img.Digest.String() {
			t.Errorf("the tag stands for %s, want what is stored", w.Header().Get("Docker-Content-Digest"))
		}
		c.wantNotCached(c.onlyCached("GET", "manifests/v2", "only-if-cached"), "GET", "manifests/v2")
		c.wantUnasked()
	})
}

// TestOnlyIfCachedAges: what a client and the rule say of the age of a tag whose check is
// ten minutes old.
func TestOnlyIfCachedAges(t *testing.T) {
	for control, want := range map[string]int{
		"": 200, "max-stale": 200, "max-stale=601": 200, "max-stale=300": 504, "max-age=700": 200, "max-age=300": 504, "max-age=300, max-stale=400": 200,
		"max-age=300, max-stale=200": 504, "max-age=0, max-stale": 200, `max-stale="601"`: 200, "max-stale=99999999999999999999": 200, "max-stale=soon": 504, "max-age": 504, "MAX-AGE=300": 504,
	} {
		inBubble(t, func(c *clock) {
			c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			c.manifest("v1")
			c.pass(10 * time.Minute)
			c.up.Reset()
			if w := c.onlyCached("GET", "manifests/v1", "only-if-cached, "+control); w.Code != want {
				t.Errorf("%q: status %d, want %d", control, w.Code, want)
			}
			c.wantUnasked()
		})
	}
	for name, row := range map[string]struct {
		rule  rule.Rule
		want  int
		state string
	}{
		"fresh":                           {rule.Rule{Freshness: time.Hour}, 200, "hit"},
		"fresh and access required":       {rule.Rule{Freshness: time.Hour, RequireAccess: true}, 200, "hit"},
		"access required":                 {rule.Rule{RequireAccess: true}, 504, "detail=only-if-cached"},
		"too old for the rule":            {rule.Rule{MaxStale: time.Minute}, 504, "detail=only-if-cached"},
		"never unchecked by the rule":     {rule.Rule{MaxStale: -1}, 504, "detail=only-if-cached"},
		"young enough for the rule":       {rule.Rule{MaxStale: time.Hour}, 200, "hit; detail=only-if-cached"},
		"fresh for an hour, never after ": {rule.Rule{Freshness: time.Hour, MaxStale: -1}, 200, "hit"},
	} {
		inBubble(t, func(c *clock) {
			c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			c.manifest("v1")
			r := row.rule
			r.Name, r.Source, r.Target = "team", source+"/team/*", "app/*"
			if err := c.rules.Replace(r); err != nil {
				t.Fatal(err)
			}
			c.pass(10 * time.Minute)
			w := c.onlyCached("GET", "manifests/v1", "only-if-cached")
			if w.Code != row.want || w.Header().Get("Cache-Status") != "pullthrough; "+row.state {
				t.Errorf("%s: status %d, Cache-Status %q", name, w.Code, w.Header().Get("Cache-Status"))
			}
		})
	}
}

// TestOnlyIfCachedCausesNoCopy: a client that wants only what is stored does not make a
// platform count as pulled.
func TestOnlyIfCachedCausesNoCopy(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
		c.manifest("v1")
		child := img.Children[0]
		c.manifest(child.Digest.String())
		c.pass(time.Minute)
		c.up.Reset()
		if w := c.onlyCached("GET", "manifests/"+child.Digest.String(), "only-if-cached"); w.Code != http.StatusOK || w.Header().Get("Cache-Status") != "pullthrough; hit; detail=copying" {
			t.Errorf("a manifest that was read: status %d, Cache-Status %q", w.Code, w.Header().Get("Cache-Status"))
		}
		for _, l := range child.Layers {
			c.wantNotCached(c.onlyCached("GET", "blobs/"+l.Digest.String(), "only-if-cached"), "GET", "a layer")
		}
		c.wantUnasked()
	})
}
