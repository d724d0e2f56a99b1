package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// The secrets that a receiver shares with the proxy. All of them contain "s3cret", except
// the one that signs.
const (
	hookToken = "s3cret-token"
	hookUser  = "alice:s3cret-password@"
	hookQuery = "/s3cret-path?key=s3cret-query"
)

// withHooks is [file] with webhooks. The first line of each is its URL.
func withHooks(up *upstreamtest.Registry, store string, hooks ...string) string {
	return file(up, "store: "+store, "webhooks:", "  - url: "+strings.Join(hooks, "\n  - url: "))
}

// secretHook is a webhook with all of these secrets.
func secretHook(hook *webhooktest.Recorder, more ...string) string {
	base, _ := strings.CutSuffix(hook.URL(), "/hook")
	return strings.Replace(base, "//", "//"+hookUser, 1) + strings.Join(append([]string{hookQuery,
		"    headers: {X-Token: {env: PROXY_TEST_TOKEN}}", "    secrets: [{env: PROXY_TEST_SECRET}]"}, more...), "\n")
}

// startHooked starts a proxy whose webhooks have secrets, and looks for them at the end in
// all that it printed.
func startHooked(t *testing.T, config string, env ...string) *process {
	t.Helper()
	var p *process
	t.Cleanup(func() {
		if p == nil {
			return
		}
		if said := p.out.String() + p.log.String(); strings.Contains(said, "s3cret") || strings.Contains(said, signing) {
			t.Errorf("a secret was told:\n%s", said)
		}
	})
	p = startProxy(t, config, append([]string{"PROXY_TEST_TOKEN=" + hookToken, "PROXY_TEST_SECRET=" + signing}, env...)...)
	return p
}

// pull pulls one platform of an image by tag and fails unless it is whole.
func pull(t *testing.T, p *process, up *upstreamtest.Registry, tag string, index upstreamtest.Image, arch string) {
	t.Helper()
	repository := p.url + "/v2/local/" + index.Repository
	want := func(path string, body []byte) {
		t.Helper()
		if status, got := fetch(t, client(), repository+path); status != 200 || !bytes.Equal(got, body) {
			t.Errorf("%s: status %d: %.300q", path, status, got)
		}
	}
	want("/manifests/"+tag, index.Manifest)
	for _, img := range index.Children {
		if img.Platform.Architecture != arch {
			continue
		}
		want("/manifests/"+img.Digest.String(), img.Manifest)
		for _, d := range append(slices.Clone(img.Layers), img.Config) {
			want("/blobs/"+d.Digest.String(), up.Blob(index.Repository, d.Digest))
		}
	}
}

// target is the target of an event for a manifest.
func target(img upstreamtest.Image, tag string) webhook.Target {
	return webhook.Target{MediaType: img.MediaType, Size: img.Size, Length: img.Size, Digest: img.Digest.String(),
		Repository: "local/" + img.Repository, Tag: tag}
}

// threeOf returns the targets of the events for a first platform.
func threeOf(index upstreamtest.Image, tag string, child int) []webhook.Target {
	return []webhook.Target{target(index, tag), target(index, ""), target(index.Children[child], "")}
}

// wantEvents waits for events and fails unless they are pushes of exactly these
// targets. It returns their IDs in order.
func wantEvents(t *testing.T, hook *webhooktest.Recorder, want ...webhook.Target) (ids []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := hook.Wait(ctx, len(want)); err != nil {
		t.Fatal(err)
	}
	missing := slices.Clone(want)
	for _, ev := range hook.Events() {
		i := slices.Index(missing, ev.Target)
		if ev.Action != webhook.ActionPush || i < 0 {
			t.Errorf("%s of %+v, or once too often", ev.Action, ev.Target)
			continue
		}
		missing = slices.Delete(missing, i, i+1)
		ids = append(ids, ev.ID)
	}
	slices.Sort(ids)
	return ids
}

// TestWebhook: a pull of one platform gives three events for each receiver, signed and with
// a header from the environment, in each format.
func TestWebhook(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	index := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
	formats := map[string]webhook.Encoding{"acr": webhook.ACR, "cloudevents": webhook.CloudEventsStructured, "cloudevents-binary": webhook.CloudEventsBinary}
	hooks, list := map[string]*webhooktest.Recorder{}, []string{}
	for format := range formats {
		hook := webhooktest.New(t)
		hook.RequireSignature(signing)
		hooks[format], list = hook, append(list, secretHook(hook, "    format: "+format))
	}
	p := startHooked(t, withHooks(up, "dir:"+t.TempDir(), list...))
	if !strings.Contains(p.out.String(), ", 1 rule, 3 webhooks, store dir:") {
		t.Errorf("the line at the start is %q", p.out.String())
	}
	pull(t, p, up, "v1", index, "amd64")
	for _, hook := range hooks {
		wantEvents(t, hook, threeOf(index, "v1", 0)...)
	}
	pull(t, p, up, "v1", index, "amd64") // a hit
	p.signal(t)
	p.wantExit(t, exitOK)
	for format, hook := range hooks {
		if n := len(hook.Deliveries()); n != 3 {
			t.Errorf("%s: %d deliveries, want 3", format, n)
		}
		for _, d := range hook.Deliveries() {
			if err := webhook.Verify(d.Header, d.Body, time.Now(), signing); err != nil {
				t.Errorf("%s: %v", format, err)
			}
			user, password, _ := (&http.Request{Header: d.Header}).BasicAuth()
			if d.Encoding != formats[format] || d.Header.Get("X-Token") != hookToken || d.Path != hookQuery || user+":"+password+"@" != hookUser {
				t.Errorf("%s: %+v", format, d)
			}
		}
	}
}

// triedEvents returns the IDs of the events that are tried again, by the log.
func (p *process) triedEvents() []string {
	var ids []string
	for _, found := range regexp.MustCompile(`tried again" receiver=\S+ event=([0-9a-f-]{36}) `).FindAllStringSubmatch(p.log.String(), -1) {
		ids = append(ids, found[1])
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// TestWebhookOutlivesProcess: while the receiver is down or hangs, the proxy is
// ended. The next one delivers the same events.
func TestWebhookOutlivesProcess(t *testing.T) {
	for _, test := range []struct {
		name   string
		hangs  bool
		signal os.Signal
		code   int
	}{
		{"down, SIGTERM", false, syscall.SIGTERM, exitOK},
		{"down, SIGKILL", false, syscall.SIGKILL, -1},
		{"hangs, SIGTERM", true, syscall.SIGTERM, exitOK},
		{"hangs, SIGKILL", true, syscall.SIGKILL, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			up, hook := upstreamtest.NewRegistry(t), webhooktest.New(t)
			index := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
			hook.RequireSignature(signing)
			config := withHooks(up, "dir:"+t.TempDir(), secretHook(hook))
			if test.hangs {
				hook.Fail(webhooktest.Fault{Hang: true})
			} else {
				hook.Stop()
			}
			first := startHooked(t, config)
			pull(t, first, up, "v1", index, "arm64")
			seen := first.triedEvents
			if test.hangs {
				seen = func() (ids []string) {
					for _, d := range hook.Deliveries() {
						ids = append(ids, d.Event.ID)
					}
					slices.Sort(ids)
					return slices.Compact(ids)
				}
			}
			first.until(t, "three deliveries", func() bool { return len(seen()) == 3 })
			ids := seen()
			first.send(t, test.signal)
			first.wantExit(t, test.code)
			if cut := strings.Contains(first.log.String(), "deliveries of events were cut"); cut != (test.hangs && test.code == exitOK) {
				t.Errorf("the log says that deliveries were cut: %t", cut)
			}
			hook.Heal()
			if err := hook.Restart(); err != nil {
				t.Fatal(err)
			}

			up.Stop() // so that the next proxy copies nothing again
			startHooked(t, config)
			if got := wantEvents(t, hook, threeOf(index, "v1", 1)...); !slices.Equal(got, ids) {
				t.Errorf("the events are %q, were %q", got, ids)
			}
		})
	}
}

// TestWebhookScopes: each receiver gets the events in its scope, of two images.
func TestWebhookScopes(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	app := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
	web := up.AddMultiPlatform("team/web", "latest", upstreamtest.Layers(2, 2000), "amd64")
	all := append(threeOf(app, "v1", 0), threeOf(web, "latest", 0)...)
	rows := []struct {
		keys string
		hook *webhooktest.Recorder
		want []webhook.Target
	}{
		{keys: "", want: all},
		{keys: "    scope: local/team/app:v1", want: all[:1]},
		{keys: "    scope: local/team/app:*", want: all[:3]},
		{keys: "    scope: local/team/app"},
		{keys: "    scope: local/team/web\n    actions: [push]", want: all[3:4]},
		{keys: "    scope: team/app:*"},
		{keys: "    actions: [delete]"},
		{keys: "    actions: [delete, push]", want: all},
	}
	var list []string
	for i := range rows {
		rows[i].hook = webhooktest.New(t)
		list = append(list, rows[i].hook.URL()+"\n"+rows[i].keys)
	}
	p := startProxy(t, withHooks(up, "mem", list...))
	p.until(t, "the log to say what is lost", func() bool {
		return strings.Contains(p.log.String(), "the store is in memory: events that are not delivered when the proxy ends are lost")
	})
	pull(t, p, up, "v1", app, "amd64")
	pull(t, p, up, "latest", web, "amd64")
	for _, row := range rows {
		wantEvents(t, row.hook, row.want...)
	}
	p.signal(t)
	p.wantExit(t, exitOK)
	for _, row := range rows {
		if n := len(row.hook.Deliveries()); n != len(row.want) {
			t.Errorf("%q got %d deliveries, want %d", row.keys, n, len(row.want))
		}
	}
}

// TestWebhookSecrets: a receiver fails in every way, and repeats what it was sent. [startHooked]
// looks for the secrets.
func TestWebhookSecrets(t *testing.T) {
	echo := func(w http.ResponseWriter, req *http.Request) {
		said := fmt.Sprintf("%s %s %v", req.URL, req.RequestURI, req.Header)
		w.Header().Set("X-Echo", said)
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintln(w, said)
	}
	for name, fault := range map[string]webhooktest.Fault{
		"refuses":                   {Status: http.StatusForbidden},
		"echoes":                    {Do: echo},
		"breaks":                    {Break: true},
		"redirects elsewhere":       {Redirect: "http://" + hookUser + "localhost:1" + hookQuery},
		"redirects to a GET":        {Status: http.StatusSeeOther, Redirect: hookQuery},
		"redirects to what is none": {Redirect: "http://%zz" + hookQuery},
	} {
		t.Run(name, func(t *testing.T) {
			up, hook := upstreamtest.NewRegistry(t), webhooktest.New(t)
			index := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(1, 1000), "amd64")
			hook.Fail(fault)
			p := startHooked(t, withHooks(up, "mem", secretHook(hook)))
			pull(t, p, up, "v1", index, "amd64")
			p.until(t, "a failure", func() bool { return len(p.triedEvents()) > 0 })
			if len(hook.Events()) > 0 {
				t.Error("the receiver did not fail")
			}
			p.signal(t)
			p.wantExit(t, exitOK)
		})
	}
}

// TestWebhookSecretsComeLater: for a secret that cannot be read at the start there is a warning,
// and events wait for it: if it is in a file, while the proxy runs, and if it is in the
// environment, until the next start.
func TestWebhookSecretsComeLater(t *testing.T) {
	up, late, lost := upstreamtest.NewRegistry(t), webhooktest.New(t), webhooktest.New(t)
	index := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(1, 1000), "amd64")
	token := filepath.Join(t.TempDir(), "token")
	config := withHooks(up, "dir:"+t.TempDir(),
		late.URL()+"\n    name: late\n    headers: {X-Token: {file: "+token+"}}", "{env: PROXY_TEST_URL}")
	p := startHooked(t, config)
	for _, want := range []string{
		`msg="a webhook cannot be used; its events wait" receiver=late error="header X-Token: auth: secret file: open ` + token + `: no such file or directory"`,
		`msg="a webhook cannot be used; its events wait" receiver=hook-308d36e48a58 error="url: auth: environment variable PROXY_TEST_URL is not set"`,
	} {
		p.until(t, "the log to say "+want, func() bool { return strings.Contains(p.log.String(), want) })
	}
	pull(t, p, up, "v1", index, "amd64")
	p.until(t, "all to fail", func() bool {
		log := p.log.String()
		return len(p.triedEvents()) == 3 && strings.Contains(log, `tried again" receiver=late`) && strings.Contains(log, `tried again" receiver=hook-`)
	})
	ids := p.triedEvents()
	if err := os.WriteFile(token, []byte(hookToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, late, threeOf(index, "v1", 0)...)
	for _, d := range late.Deliveries() {
		if d.Header.Get("X-Token") != hookToken {
			t.Errorf("the token is %q", d.Header.Get("X-Token"))
		}
	}
	p.send(t, syscall.SIGKILL)
	p.wantExit(t, -1)
	startHooked(t, config, "PROXY_TEST_URL="+lost.URL()+"/s3cret-path")
	if got := wantEvents(t, lost, threeOf(index, "v1", 0)...); !slices.Equal(got, ids) {
		t.Errorf("the events are %q, were %q", got, ids)
	}
}

// TestWebhookRemoved: events that wait for a receiver that was removed from the file are
// dropped, and the log says so.
func TestWebhookRemoved(t *testing.T) {
	up, hook := upstreamtest.NewRegistry(t), webhooktest.New(t)
	index := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(1, 1000), "amd64")
	hook.Stop()
	dir := "dir:" + t.TempDir()
	p := startHooked(t, withHooks(up, dir, secretHook(hook, "    name: scanner")))
	pull(t, p, up, "v1", index, "amd64")
	p.until(t, "all to fail", func() bool { return len(p.triedEvents()) == 3 })
	p.signal(t)
	p.wantExit(t, exitOK)
	p = startProxy(t, file(up, "store: "+dir))
	want := `msg="events for a receiver that is gone are dropped" receiver=scanner events=3`
	p.until(t, "the log to say "+want, func() bool { return strings.Contains(p.log.String(), want) })
}

// TestWebhookEnvironment: HTTPS_PROXY and SSL_CERT_FILE apply to webhooks.
func TestWebhookEnvironment(t *testing.T) {
	up, viaProxy, private := upstreamtest.NewRegistry(t), webhooktest.New(t), webhooktest.NewHandler()
	index := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(1, 1000), "amd64")
	server := httptest.NewTLSServer(private)
	defer private.Close()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	company := strings.TrimSuffix(viaProxy.URL(), "/hook")
	// The fake receiver is the proxy: it receives requests to a host that does not exist.
	p := startHooked(t, withHooks(up, "mem", "http://hooks.example.com/hook", server.URL+"/hook"),
		"HTTP_PROXY="+company, "http_proxy="+company, "NO_PROXY=", "no_proxy=", "SSL_CERT_FILE="+ca)
	pull(t, p, up, "v1", index, "amd64")
	wantEvents(t, viaProxy, threeOf(index, "v1", 0)...)
	wantEvents(t, private, threeOf(index, "v1", 0)...)
}
