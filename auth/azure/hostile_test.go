package azure_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream"
)

// TestHostileRegistry: whatever the source answers, nobody but its own token
// server sees what the identity has, and every request is looked at.
func TestHostileRegistry(t *testing.T) {
	for name, c := range map[string]struct {
		challenge, redirect string
	}{
		"realm elsewhere":     {challenge: `Bearer realm="https://tokens.evil.example/token",service="dev.azurecr.io"`},
		"realm over http":     {challenge: `Bearer realm="http://dev.azurecr.io/oauth2/token",service="dev.azurecr.io"`},
		"realm of a neighbor": {challenge: `Bearer realm="https://evil.azurecr.io/oauth2/token",service="evil.azurecr.io"`},
		"foreign service":     {challenge: `Bearer realm="https://dev.azurecr.io/oauth2/token",service="evil.azurecr.io"`},
		"no service":          {challenge: `Bearer realm="https://dev.azurecr.io/oauth2/token"`},
		"basic":               {challenge: `Basic realm="x"`},
		"redirect elsewhere":  {redirect: "https://evil.example/v2/team-a/api/manifests/v1"},
		"redirect to http":    {redirect: "http://dev.azurecr.io/v2/team-a/api/manifests/v1"},
		"redirect to IMDS":    {redirect: "https://169.254.169.254/metadata/identity/oauth2/token"},
	} {
		s := newScene(t)
		u := s.identity("team-a/api")
		s.set(func() {
			s.fail["v2"] = func(w http.ResponseWriter, _ *http.Request) {
				if c.redirect != "" {
					w.Header().Set("Location", c.redirect)
					w.WriteHeader(http.StatusTemporaryRedirect)
					return
				}
				w.Header().Set("Www-Authenticate", c.challenge)
				w.WriteHeader(http.StatusUnauthorized)
			}
		})
		if err := s.pull("rule", "team-a/api", u); err == nil {
			t.Errorf("%s: no error", name)
		}
		s.set(func() {
			for _, call := range s.calls {
				if call.kind == "exchange" && call.host == dev {
					continue // where the Entra token belongs
				}
				for token, says := range s.valid {
					if strings.Contains(call.text, token) {
						t.Errorf("%s: %s %s saw the token of %q", name, call.kind, call.host, says)
					}
				}
			}
		})
	}
}

// TestLooksLikeARegistry: no host but a login server makes anybody ask for a
// token.
func TestLooksLikeARegistry(t *testing.T) {
	s := newScene(t)
	u := s.identity("team-a/api")
	for _, host := range []string{"dev.azurecr.io.evil.example", "evil-azurecr.io", "dev.azurecr.io:8443", "dev.eastus.data.azurecr.io", "quay.io"} {
		r, err := s.up.Open(upstream.Source{Rule: "rule", Host: host, Repository: "team-a/api"}, u)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Manifest(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), "login server") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if len(s.calls) != 0 {
		t.Errorf("%d requests were made", len(s.calls))
	}
}
