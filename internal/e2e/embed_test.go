package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// TestCraneThroughEmbed asks a registry with a cache in it, behind one gate:
// with a login crane gets what a rule covers and what the registry has itself,
// without one neither.
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
			if said := command(t, crane, "manifest", "--insecure", r); !strings.Contains(said, `"schemaVersion"`) {
				t.Errorf("crane manifest %s printed no manifest: %s", r, said)
			}
		}
	})
	t.Run("without a login", func(t *testing.T) {
		ownLogins(t)
		wantUnauthorized(t, crane, references)
		// Crane begins with /v2/ and ends there. Who does not gets no further.
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

// ownLogins gives the clients of a test an empty file of logins. Without a file
// they would look for one elsewhere.
func ownLogins(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "config.json", "{}")
	t.Setenv("DOCKER_CONFIG", dir)
}

// wantUnauthorized fails unless crane is refused for want of a login, and for
// nothing else.
func wantUnauthorized(t *testing.T, crane string, references []string) {
	t.Helper()
	for _, r := range references {
		said, err := try(t, crane, "manifest", "--insecure", r)
		if err == nil {
			t.Errorf("crane manifest %s printed %s, want UNAUTHORIZED", r, said)
		} else if !strings.Contains(err.Error(), "UNAUTHORIZED") {
			t.Errorf("crane manifest %s: %v, want UNAUTHORIZED", r, err)
		}
	}
}
