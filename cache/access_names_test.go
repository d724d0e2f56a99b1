package cache_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
)

// TestAuthorizeSeesTheCanonicalRepository: whatever is asked for, by whichever method
// and under whichever name, Authorize is asked once, before anything else, about the
// one name that the repository has, and its word counts.
func TestAuthorizeSeesTheCanonicalRepository(t *testing.T) {
	var seen []cache.Access
	rules, err := rule.NewSet(rule.Rule{Name: "hub", Source: "docker.io/*", Target: "hub/*"}, rule.Rule{Name: "team", Source: "registry.example.com/team/*", Target: "app/*"})
	if err != nil {
		t.Fatal(err)
	}
	c := &cache.Cache{Rules: rules, Authorize: func(_ *http.Request, a cache.Access) error {
		seen = append(seen, a)
		return errors.New("no")
	}}
	names := []struct{ asked, query, canonical string }{
		{"hub/alpine", "", "hub/library/alpine"},
		{"hub/library/alpine", "", "hub/library/alpine"},
		{"hub/alpine", "ns=docker.io", "hub/library/alpine"},
		{"hub/alpine", "ns=example.com", "hub/library/alpine"}, // the test's own host
		{"library/alpine", "ns=registry-1.docker.io", "hub/library/alpine"},
		{"alpine", "ns=docker.io", "hub/library/alpine"},
		{"team/api", "ns=registry.example.com", "app/api"},
		{"team/api", "ns=REGISTRY.example.com", "app/api"},
		{"app/api", "ns=", "app/api"},
		{"own/x", "", "own/x"}, // no rule covers it
	}
	kinds := []struct {
		path string
		kind cache.AccessKind
	}{
		{"/manifests/v1", "manifest"}, {"/manifests/" + someDigest, "manifest"}, {"/blobs/" + someDigest, "blob"},
		{"/tags/list", "tags"}, {"/referrers/" + someDigest, "referrers"}, {"/blobs/uploads/", "blob"},
	}
	methods := map[string][]string{
		"GET": {"pull"}, "HEAD": {"pull"}, "OPTIONS": {"pull"}, "PUT": {"pull", "push"}, "POST": {"pull", "push"}, "PATCH": {"pull", "push"}, "DELETE": {"delete"},
	}
	for _, n := range names {
		for _, k := range kinds {
			for method, actions := range methods {
				seen = nil
				path := "/v2/" + n.asked + k.path + "?" + n.query
				w := httptest.NewRecorder()
				c.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
				want := cache.Access{Kind: k.kind, Repository: n.canonical, Requested: n.asked, Actions: actions}
				if len(seen) != 1 || !sameAccess(seen[0], want) || w.Code != http.StatusForbidden {
					t.Errorf("%s %s: %d, asked about %+v, want %+v", method, path, w.Code, seen, want)
				}
				if strings.Contains(w.Body.String(), "upstream") || w.Header().Get("X-Azure-Origin") != "" {
					t.Errorf("%s %s: an answer came after the refusal: %s", method, path, w.Body)
				}
			}
		}
	}
	if n := c.Stats(); n.Checks+n.ManifestsFetched+n.BlobConnections != 0 {
		t.Errorf("the upstream was asked though all was refused: %+v", n)
	}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func sameAccess(a, b cache.Access) bool {
	return a.Kind == b.Kind && a.Repository == b.Repository && a.Requested == b.Requested && slices.Equal(a.Actions, b.Actions)
}
