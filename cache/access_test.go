package cache_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

const someDigest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// accesses are requests and what they want to do.
var accesses = []struct {
	method, path string
	kind         cache.AccessKind
	repository   string
	actions      []string
}{
	{"GET", "/v2/", "ping", "", nil},
	{"GET", "/v2/_catalog", "catalog", "", []string{"*"}},
	{"GET", "/v2/own/x/manifests/v1", "manifest", "own/x", []string{"pull"}},
	{"HEAD", "/v2/own/x/manifests/" + someDigest, "manifest", "own/x", []string{"pull"}},
	{"GET", "/v2/own/x/blobs/" + someDigest, "blob", "own/x", []string{"pull"}},
	{"GET", "/v2/own/x/tags/list?n=5", "tags", "own/x", []string{"pull"}},
	{"GET", "/v2/own/x/referrers/" + someDigest, "referrers", "own/x", []string{"pull"}},
	{"PUT", "/v2/own/x/manifests/v1", "manifest", "own/x", []string{"pull", "push"}},
	{"POST", "/v2/own/x/blobs/uploads/", "blob", "own/x", []string{"pull", "push"}},
	{"PATCH", "/v2/own/x/blobs/uploads/some-id", "blob", "own/x", []string{"pull", "push"}},
	{"DELETE", "/v2/own/x/manifests/v1", "manifest", "own/x", []string{"delete"}},
	{"OPTIONS", "/v2/own/x/manifests/v1", "manifest", "own/x", []string{"pull"}},
}

func TestAccessOf(t *testing.T) {
	for _, c := range accesses {
		a, err := cache.AccessOf(httptest.NewRequestWithContext(t.Context(), c.method, c.path, nil))
		if err != nil || a.Kind != c.kind || a.Repository != c.repository || a.Requested != c.repository || !slices.Equal(a.Actions, c.actions) {
			t.Errorf("%s %s: %+v, %v", c.method, c.path, a, err)
		}
	}
	for path, status := range map[string]int{
		"/elsewhere": 404, "/v2/a%2Fb/manifests/v1": 404, "/v2/A/manifests/v1": 400, "/v2/a/blobs/sha256:zz": 400, "/v2/a/manifests/.x": 404, "/v2/a/nothing": 404,
	} {
		_, err := cache.AccessOf(httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		if e, ok := errors.AsType[*cache.Error](err); !ok || e.Status != status {
			t.Errorf("%s: %v, want an error with status %d", path, err, status)
		}
	}
}

// TestGuard: what Next answers is guarded by the function that guards what is
// covered.
func TestGuard(t *testing.T) {
	var asked []cache.Access
	reached := 0
	authorize := func(r *http.Request, a cache.Access) error {
		asked = append(asked, a)
		switch r.Header.Get("Authorization") {
		case "":
			return &cache.Challenge{Header: `Bearer realm="r"`}
		case "Bearer good":
			return nil
		}
		return errors.New("no")
	}
	h := cache.Guard(authorize, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	do := func(method, path, authorization string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for _, c := range accesses {
		asked, reached = nil, 0
		if w := do(c.method, c.path, ""); w.Code != 401 || w.Header().Get("WWW-Authenticate") != `Bearer realm="r"` || reached != 0 {
			t.Errorf("%s %s without a token: %d %v", c.method, c.path, w.Code, w.Header())
		}
		if w := do(c.method, c.path, "Bearer bad"); w.Code != 403 || reached != 0 {
			t.Errorf("%s %s with a bad token: %d", c.method, c.path, w.Code)
		}
		if w := do(c.method, c.path, "Bearer good"); w.Code != 200 || reached != 1 {
			t.Errorf("%s %s with a good token: %d", c.method, c.path, w.Code)
		}
		if len(asked) != 3 || asked[0].Kind != c.kind || asked[0].Repository != c.repository {
			t.Errorf("%s %s: asked %+v", c.method, c.path, asked)
		}
	}
	asked, reached = nil, 0
	for path, want := range map[string]int{"/elsewhere": 1, "/v2/A/manifests/v1": 0, "/v2/a/blobs/sha256:zz": 0} {
		reached = 0
		if do("GET", path, ""); reached != want || len(asked) != 0 {
			t.Errorf("%s: reached Next %d times, asked %+v", path, reached, asked)
		}
	}
}

// TestAuthorizeIsToldBothNames: the canonical name, to decide by, and the one that
// the client wrote, which is what some clients ask tokens for.
func TestAuthorizeIsToldBothNames(t *testing.T) {
	var seen []cache.Access
	rules, err := rule.NewSet(rule.Rule{Name: "hub", Source: "docker.io/*", Target: "hub/*"}, rule.Rule{Name: "team", Source: "registry.example.com/team/*", Target: "app/*"})
	if err != nil {
		t.Fatal(err)
	}
	c := &cache.Cache{Rules: rules, Authorize: func(_ *http.Request, a cache.Access) error {
		seen = append(seen, a)
		return errors.New("no")
	}}
	for path, want := range map[string][2]string{
		"/v2/hub/alpine/manifests/v1":                        {"hub/library/alpine", "hub/alpine"},
		"/v2/hub/library/alpine/blobs/" + someDigest:         {"hub/library/alpine", "hub/library/alpine"},
		"/v2/app/api/tags/list":                              {"app/api", "app/api"},
		"/v2/team/api/manifests/v1?ns=registry.example.com":  {"app/api", "team/api"},
		"/v2/library/alpine/manifests/v1?ns=index.docker.io": {"hub/library/alpine", "library/alpine"},
		"/v2/own/x/referrers/" + someDigest:                  {"own/x", "own/x"},
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			seen = nil
			w := httptest.NewRecorder()
			c.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
			if w.Code != 403 || len(seen) != 1 || seen[0].Repository != want[0] || seen[0].Requested != want[1] {
				t.Errorf("%s %s: %d, %+v", method, path, w.Code, seen)
			}
		}
	}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// What is no GET and no HEAD is told what it is.
func TestOtherMethods(t *testing.T) {
	s := newStory(t)
	s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 100))
	for method, words := range map[string]string{"PUT": "cannot be written to", "DELETE": "cannot be written to", "OPTIONS": "only GET and HEAD", "TRACE": "only GET and HEAD", "PROPFIND": "only GET and HEAD"} {
		r := s.do(method, "/v2/app/api/manifests/v1")
		s.wantError(r, 405, "UNSUPPORTED")
		if !strings.Contains(string(r.body), words) || r.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s %v", method, r.body, r.Header)
		}
	}
	s.wantUpstream(nil)
}

// TestAuthorizeAnswersInItsOwnWords: an Error of Authorize is the answer, with the header of
// the Challenge that it wraps. One that cannot be an answer is a refusal like any other.
func TestAuthorizeAnswersInItsOwnWords(t *testing.T) {
	challenge := &cache.Challenge{Header: `Basic realm="r"`}
	for name, c := range map[string]struct {
		err        error
		status     int
		body       string
		retry, ask string
	}{
		"limit":     {&cache.Error{Status: 429, Code: cache.CodeTooManyRequests, Message: "slow down", RetryAfter: 1500 * time.Millisecond}, 429, `{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}`, "2", ""},
		"challenge": {&cache.Error{Status: 401, Code: cache.CodeUnauthorized, Message: "log in", Err: challenge}, 401, `{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}`, "", challenge.Header},
		"wrapped":   {fmt.Errorf("secret words: %w", &cache.Error{Status: 403, Code: cache.CodeDenied, Message: "no"}), 403, `{"errors":[{"code":"DENIED","message":"no"}]}`, "", ""},
		"no status": {&cache.Error{Code: cache.CodeDenied, Message: "secret words"}, 403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`, "", ""},
		"success":   {&cache.Error{Status: 200, Code: cache.CodeDenied, Message: "secret words"}, 403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`, "", ""},
		"no code":   {&cache.Error{Status: 401, Err: challenge}, 401, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, "", challenge.Header},
	} {
		authorize := func(*http.Request, cache.Access) error { return c.err }
		cached := &cache.Cache{Authorize: authorize}
		for where, h := range map[string]http.Handler{"cache": cached, "guard": cache.Guard(authorize, http.NotFoundHandler())} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v2/own/x/manifests/v1", nil))
			if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Retry-After") != c.retry || w.Header().Get("WWW-Authenticate") != c.ask {
				t.Errorf("%s, %s: %d %v %s", name, where, w.Code, w.Header(), w.Body)
			}
		}
		if err := cached.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
