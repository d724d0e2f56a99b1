package main

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// watched is a proxy with an admin address.
type watched struct {
	*process
	t     *testing.T
	admin string
}

// startWatched starts a proxy, and finds its admin address.
func startWatched(t *testing.T, file string) *watched {
	w := &watched{process: startProxy(t, "admin: 127.0.0.1:0\n"+file), t: t}
	w.admin = "http://" + adminOf(t, w.process)
	return w
}

// see returns what is at a path of the admin address.
func (w *watched) see(path, token string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.admin+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestWatched pulls, and looks at /metrics, /readyz and /debug/pprof/, before and after a
// reload. No secret of the file is in any of them.
func TestWatched(t *testing.T) {
	const password, token, path, header = "the-password-of-alice", "the-token-of-the-boss", "the-secret-path", "the-secret-header"
	up, hook := upstreamtest.NewRegistry(t), webhooktest.New(t)
	up.RequireLogin(map[string]string{"alice": password}, nil)
	up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	set := "credentials:\n  - {name: NAME, loginServer: " + up.Host() + ", username: {value: alice}, password: {value: " + password + "}}\n"
	config := file(up, "store: dir:"+t.TempDir(), "adminAccess: {token: {value: "+token+"}}", "debug: {pprof: true}",
		"webhooks:\n  - {url: '"+hook.URL()+"/"+path+"', headers: {X-Token: {value: "+header+"}}}\n  - {name: deploy, url: '"+hook.URL()+"'}") + "    credentials: NAME\n" + set
	w := startWatched(t, strings.ReplaceAll(config, "NAME", "the-set"))

	if status, body := fetch(t, client(), w.url+"/v2/local/team/app/manifests/v1"); status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	if status, _ := fetch(t, client(), w.url+"/v2/unknown-to-all/manifests/v1"); status != http.StatusNotFound {
		t.Errorf("status %d", status)
	}
	seen := ""
	see := func(path, token string, want int, words ...string) {
		t.Helper()
		status, body := w.see(path, token)
		seen += body
		if status != want {
			t.Errorf("%s: status %d, want %d: %.300s", path, status, want, body)
		}
		for _, word := range words {
			if !strings.Contains(body, word) {
				t.Errorf("%s: %q is not in %s", path, word, body)
			}
		}
	}
	w.until(t, "the events to be delivered", func() bool {
		_, body := w.see("/metrics", "")
		return strings.Contains(body, `pullthrough_deliveries_total{receiver="deploy",result="delivered"} 2`)
	})
	see("/metrics", "", http.StatusOK, `pullthrough_requests_total{outcome="miss",rule="local"} 1`, `pullthrough_requests_total{outcome="absent",rule=""} 1`,
		`pullthrough_credential_set_healthy{set="the-set"} 1`, `pullthrough_upstream_up{host="`+up.Host()+`"} 1`, "pullthrough_store_up 1", `receiver="hook-`,
		"pullthrough_copied_total 1", "go_goroutines ", "process_start_time_seconds ")
	see("/readyz", "", http.StatusOK, `"ready": true`, `"host": "`+up.Host()+`"`, `"status": "ok"`)
	if status, body := w.see("/healthz", ""); status != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: status %d, %q", status, body)
	}
	see("/debug/pprof/", "", http.StatusUnauthorized)
	see("/debug/pprof/", token, http.StatusOK, "goroutine")
	see("/debug/pprof/goroutine?debug=1", token, http.StatusOK, "goroutine profile")
	see("/debug/pprof/cmdline", token, http.StatusOK, "-config")

	w.reload(t, "admin: 127.0.0.1:0\n"+strings.ReplaceAll(config, "NAME", "another-set"), "msg=reloaded")
	if status, _ := fetch(t, client(), w.url+"/v2/local/team/app/manifests/v1"); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	see("/metrics", "", http.StatusOK, `set="another-set"} 1`)
	up.Stop()
	fetch(t, client(), w.url+"/v2/local/team/app/manifests/v2")
	see("/metrics", "", http.StatusOK, `pullthrough_upstream_up{host="`+up.Host()+`"} 0`, `outcome="failed",rule="local"} 1`)
	see("/readyz", "", http.StatusOK, `"status": "unreachable"`)
	for _, secret := range []string{password, token, path, header, "unknown-to-all", "team/app"} {
		if strings.Contains(seen, secret) {
			t.Errorf("%s is shown", secret)
		}
	}
}

// TestPprofOnlyIfNamed: profiles are nowhere unless the file names them, and it cannot
// name them for nobody.
func TestPprofOnlyIfNamed(t *testing.T) {
	const token = "the-token-of-the-boss"
	w := startWatched(t, "listen: 127.0.0.1:0\nadminAccess: {token: {value: "+token+"}}\ndebug: {pprof: false}\n")
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/"} {
		if status, _ := w.see(path, token); status != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, status)
		}
	}
	for file, want := range map[string]string{
		"debug: {pprof: true}\n": "1: debug: pprof needs a token or a clientCA in adminAccess",
		"admin: 127.0.0.1:1\ndebug: {pprof: true}\nadminAccess: {names: [a.example]}\n": "2: debug: pprof needs a token",
		"debug: {pprof: yes please}\n": "1: debug.pprof: wants true or false",
		"debug: true\n":                "1: debug: wants keys with values",
		"debug: {profiles: true}\n":    "1: debug.profiles: unknown key",
	} {
		if _, err := build(configFile(t, file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", file, err, want)
		}
	}
	t.Chdir(t.TempDir())
	access := "admin: 127.0.0.1:1\nadminAccess: {token: {value: " + token + "}}\n"
	if keys := built(t, access).fixed(built(t, access+"debug: {pprof: true}\n")); !slices.Equal(keys, []string{"debug"}) {
		t.Errorf("keys that need a restart: %q", keys)
	}
}

// TestReadyUntilTheEnd: a proxy that drains says so to load balancers.
func TestReadyUntilTheEnd(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 4<<20))
	w := startWatched(t, file(up))
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	up.Pace(1 << 17) // half a minute: the client leaves before
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/v2/local/team/app/blobs/"+img.Layers[0].Digest.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if status, body := w.see("/readyz", ""); status != http.StatusOK {
		t.Errorf("status %d: %s", status, body)
	}
	w.signal(t)
	w.until(t, "it to be ready no more", func() bool {
		status, body := w.see("/readyz", "")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "the proxy is ending")
	})
	leave()
	w.wantExit(t, exitOK)
}
