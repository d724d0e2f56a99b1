package azure_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth/azuretest"
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
		// What a neighbor or a stranger is sent is looked through by the fake.
		stranger := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
		s.Handle("evil.azurecr.io", stranger)
		s.Handle("evil.example", stranger)
		s.Handle("tokens.evil.example", stranger)
		s.Fail(azuretest.V2, azuretest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) {
			if c.redirect != "" {
				w.Header().Set("Location", c.redirect)
				w.WriteHeader(http.StatusTemporaryRedirect)
				return
			}
			w.Header().Set("Www-Authenticate", c.challenge)
			w.WriteHeader(http.StatusUnauthorized)
		}})
		if err := s.pull("rule", "team-a/api", u); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A registry that refuses every token, or answers for one with megabytes, is
// given up on after a bounded number of requests.
func TestRegistryThatNeverAccepts(t *testing.T) {
	for name, fault := range map[string]func(*scene){
		"401 loop": func(s *scene) {
			s.Fail(azuretest.V2, status(401, "Www-Authenticate", `Bearer realm="https://dev.azurecr.io/oauth2/token",service="dev.azurecr.io",scope="repository:team-a/api:pull"`))
		},
		"token 401": func(s *scene) { s.Fail(azuretest.Token, status(401)) },
		"megabytes": func(s *scene) { s.Fail(azuretest.Token, body(`{"access_token":"`+strings.Repeat("x", 4<<20)+`"}`)) },
		"garbage":   func(s *scene) { s.Fail(azuretest.Token, body(`{`)) },
	} {
		s := newScene(t)
		u := s.identity("team-a/api")
		fault(s)
		for range 5 {
			if err := s.pull("rule", "team-a/api", u); err == nil || len(err.Error()) > 1000 {
				t.Errorf("%s: %.200v", name, err)
			}
		}
		if n := len(s.Calls()); n > 40 {
			t.Errorf("%s: 5 pulls made %d requests", name, n)
		}
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
	if n := len(s.Calls()) + len(s.Refused()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}
