package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// TestCraneThroughEmbed pulls from a registry with a cache in it, behind one gate: with a
// login, crane gets images that a rule covers and images of the registry itself; without
// one, neither.
func TestCraneThroughEmbed(t *testing.T) {
	crane := tool(t, "crane")
	path, err := build(t.TempDir(), "embed")
	if err != nil {
		t.Fatal(err)
	}
	host := start(t, path, "-listen", "127.0.0.1:0").listening(t)
	references := []string{host + "/mirror/app:v1", host + "/own/hello:latest"}

	t.Run("with a login", func(t *testing.T) {
		ownLogins(t)
		command(t, crane, "auth", "login", host, "-u", "demo", "-p", "demo")
		for _, r := range references {
			if printed := command(t, crane, "manifest", "--insecure", r); !strings.Contains(printed, `"schemaVersion"`) {
				t.Errorf("crane manifest %s printed no manifest: %s", r, printed)
			}
		}
	})
	t.Run("without a login", func(t *testing.T) {
		ownLogins(t)
		wantUnauthorized(t, crane, references)
		// Crane begins with /v2/ and ends there. Other requests fail without a token
		// too.
		for _, path := range []string{"", "mirror/app/manifests/v1", "own/hello/manifests/latest"} {
			if status, body := get(t, "http://"+host+"/v2/"+path); status != http.StatusUnauthorized {
				t.Errorf("/v2/%s without a token: status %d %s, want 401", path, status, body)
			}
		}
	})
	t.Run("with a wrong password", func(t *testing.T) {
		ownLogins(t)
		command(t, crane, "auth", "login", host, "-u", "demo", "-p", "wrong")
		wantUnauthorized(t, crane, references)
	})
}

// ownLogins gives the clients of a test an empty file of logins, so that they do not use
// another file.
func ownLogins(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "config.json", "{}")
	t.Setenv("DOCKER_CONFIG", dir)
}

// wantUnauthorized fails unless crane is refused for lack of a login, and for no other
// reason.
func wantUnauthorized(t *testing.T, crane string, references []string) {
	t.Helper()
	for _, r := range references {
		printed, err := try(t, crane, "manifest", "--insecure", r)
		if err == nil {
			t.Errorf("crane manifest %s printed %s, want UNAUTHORIZED", r, printed)
		} else if !strings.Contains(err.Error(), "UNAUTHORIZED") {
			t.Errorf("crane manifest %s: %v, want UNAUTHORIZED", r, err)
		}
	}
}
