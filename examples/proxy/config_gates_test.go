package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/gate"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// TestGateMistakes has a row for each mistake of a gate and of keepBudget.
func TestGateMistakes(t *testing.T) {
	gated := func(keys string) string { return rules("    gate:\n" + keys) }
	for _, test := range []struct{ name, file, want string }{
		{"age", rules("    minAge: soon\n"), `5: rules[0].minAge: "soon" is not a duration such as`},
		{"age before", rules("    minAge: -1h\n"), "5: rules[0].minAge: must lie between 0s and 8784h"},
		{"age of years", rules("    minAge: 9000h\n"), "5: rules[0].minAge: must lie between"},
		{"nothing", rules("    gate: {}\n"), "5: rules[0].gate: command or url is missing"},
		{"a text", rules("    gate: admit.sh\n"), "5: rules[0].gate: wants keys with values, not a single value"},
		{"both", gated("      command: [sh]\n      url: https://gate.example.com\n"), "7: rules[0].gate.url: excludes command: a gate is one of the two"},
		{"no program", gated("      command: []\n"), "6: rules[0].gate.command: is empty"},
		{"unknown program", gated("      command: [no-such-program-anywhere, x]\n"), `6: rules[0].gate.command[0]: "no-such-program-anywhere" is no program that can be run: executable file not found in $PATH; name a program in PATH`},
		{"no list", gated("      command: sh\n"), "6: rules[0].gate.command: wants a list, not a single value"},
		{"headers of a command", gated("      command: [sh]\n      headers: {X-A: b}\n"), "7: rules[0].gate.headers.X-A: makes no sense without url"},
		{"ca of a command", gated("      command: [sh]\n      ca: x.pem\n"), "7: rules[0].gate.ca: makes no sense without url"},
		{"URL", gated("      url: gate.example.com\n"), "6: rules[0].gate.url: is not a URL such as https://gate.example.com/admit"},
		{"header of HTTP", gated("      url: https://gate.example.com\n      headers: {Content-Length: 7}\n"), "7: rules[0].gate.headers.Content-Length: belongs to HTTP"},
		{"ca file", gated("      url: https://gate.example.com\n      ca: nowhere.pem\n"), "7: rules[0].gate.ca: open nowhere.pem"},
		{"timeout", gated("      command: [sh]\n      timeout: 11m\n"), "7: rules[0].gate.timeout: must lie between 100ms and 10m0s"},
		{"remember", gated("      command: [sh]\n      remember: 0s\n"), "7: rules[0].gate.remember: must lie between 1s and 24h0m0s"},
		{"misspelt", gated("      comand: [sh]\n"), "6: rules[0].gate.comand: unknown key; did you mean command?"},
		{"budget", "upstreams: [{host: docker.io, keepBudget: -1}]\n", `1: upstreams[0].keepBudget: "-1" is not a number such as 1000`},
	} {
		t.Run(test.name, func(t *testing.T) { wantMistake(t, test.file, test.want) })
	}
	t.Chdir(t.TempDir())
	if said := mistakesOf(t, gated("      url: ftp://hunter2@gate.example.com\n")); strings.Contains(said, "hunter2") {
		t.Errorf("a secret was told: %s", said)
	}
}

// TestGatesAreRead: what the file says reaches the gates and the cache.
func TestGatesAreRead(t *testing.T) {
	t.Chdir(t.TempDir())
	s := built(t, rules("    minAge: 72h\n    gate: {command: [sh, -c, exit 0], timeout: 5s, remember: 1h}\n")+
		"  - {name: quay, source: quay.io/*, target: quay/*, gate: {url: {env: GATE}, headers: {authorization: {file: token}}}}\n"+
		"  - {name: free, source: ghcr.io/*, target: ghcr/*, minAge: 0s}\n"+
		"upstreams: [{host: index.docker.io, keepBudget: 20}, {host: quay.io}]\n")
	hub, quay := s.gates["docker-hub"], s.gates["quay"]
	if c, ok := hub.Gate.(*gate.Command); !ok || len(c.Args) != 3 || hub.MinAge != 72*time.Hour || hub.Timeout != 5*time.Second || hub.Remember != time.Hour {
		t.Errorf("%+v", hub)
	}
	if h, ok := quay.Gate.(*gate.HTTP); !ok || h.URL == nil || h.Headers["Authorization"] == nil || quay.MinAge != 0 {
		t.Errorf("%+v", quay)
	}
	if len(s.gates) != 2 {
		t.Errorf("%d rules have gates, want 2: %v", len(s.gates), s.gates)
	}
	if got := s.keepBudget(); len(got) != 1 || got["docker.io"] != 20 {
		t.Errorf("%v", got)
	}
	next := built(t, "upstreams: [{host: docker.io, keepBudget: 21}, {host: quay.io}]\n")
	if keys := strings.Join(s.fixed(next), ", "); keys != "upstreams" {
		t.Errorf("a change of %q needs a restart, want upstreams", keys)
	}
}

// untilState waits until the tag v1 is answered in a way.
func (p *process) untilState(t *testing.T, state string) {
	t.Helper()
	p.until(t, state, func() bool {
		resp, err := client().Head(p.url + "/v2/local/team/app/manifests/v1")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.Header.Get("Cache-Status") == "pullthrough; "+state
	})
}

// TestAgeInTheProgram: an image is held over a restart, the log and the refusal say until
// when, and a reload with a shorter age admits it at once.
func TestAgeInTheProgram(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	first := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	store := "store: dir:" + filepath.Join(t.TempDir(), "images")
	p := startProxy(t, file(up, store))
	wantImage(t, p.url, first, up)
	p.untilState(t, "fwd=request; fwd-status=200; detail=unchanged") // a copy that is not finished would be held too
	url := func() string { return p.url + "/v2/local/team/app/manifests/" }
	second := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 2000))
	up.AddImage("team/app", "v2", upstreamtest.Layers(1, 3000))
	aged := file(up, store) + "    minAge: 72h\n"
	p.reload(t, aged, reloaded)
	var until string
	for range 3 {
		wantImage(t, p.url, first, up)
		status, body := fetch(t, client(), url()+"v2")
		_, now, _ := strings.Cut(string(body), "held until ")
		now, _, _ = strings.Cut(now, ": it was first seen")
		if at, err := time.Parse(time.RFC3339, now); status != 403 || err != nil || until != "" && until != now || time.Until(at) < 71*time.Hour {
			t.Fatalf("status %d: %s, want one that says until %s", status, body, until)
		}
		until = now
		p.signal(t)
		p.wantExit(t, exitOK)
		if log := p.log.String(); strings.Count(log, "an image is held: its tag does not move") != 2 || !strings.Contains(log, until) || !strings.Contains(log, "tag=v1") {
			t.Errorf("the log has no warning for each tag: %s", log)
		}
		p = startProxy(t, aged)
	}
	p.reload(t, file(up, store)+"    minAge: 1ms\n", reloaded)
	wantImage(t, p.url, second, up)
	if status, body := fetch(t, client(), url()+"v2"); status != 200 {
		t.Errorf("status %d: %s", status, body)
	}
	p.signal(t)
	p.wantExit(t, exitOK)
}

// TestGatesInTheProgram: a command and a service are asked once for many pulls, with the
// secret that only they see.
func TestGatesInTheProgram(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	dir := t.TempDir()
	script, token := filepath.Join(dir, "admit.sh"), filepath.Join(dir, "token")
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(script, "#!/bin/sh\ncat >> "+dir+"/asked\necho 'CVE-1 is in it' >&2\nexit 1\n")
	write(token, "hunter2")
	var asked atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if body, _ := io.ReadAll(r.Body); r.Header.Get("Authorization") != "hunter2" || !strings.Contains(string(body), `"tag":"v1"`) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer service.Close()
	p := startProxy(t, file(up)+fmt.Sprintf("    gate: {command: [%q]}\n", script))
	for range 5 {
		if status, body := fetch(t, client(), p.url+"/v2/local/team/app/manifests/v1"); status != 403 || !strings.Contains(string(body), "the gate refuses it: CVE-1 is in it") {
			t.Errorf("status %d: %s", status, body)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "asked"))
	if err != nil || strings.Count(string(data), "\n") != 1 || !strings.Contains(string(data), img.Digest.String()) {
		t.Errorf("the command was asked %q, %v, want once", data, err)
	}
	if status, body := fetch(t, client(), p.url+"/v2/local/team/app/manifests/"+img.Digest.String()); status != 200 {
		t.Errorf("by digest, which is not gated: status %d: %s", status, body)
	}
	p.reload(t, file(up)+fmt.Sprintf("    gate: {url: %q, headers: {Authorization: {file: %q}}}\n", service.URL, token), reloaded)
	for range 5 {
		wantImage(t, p.url, img, up)
	}
	if asked.Load() != 1 {
		t.Errorf("the service was asked %d times", asked.Load())
	}
	p.signal(t)
	p.wantExit(t, exitOK)
	if strings.Contains(p.log.String(), "hunter2") {
		t.Error("a secret was logged")
	}
}

// TestBudgetInTheProgram: the rest is kept for what is not stored.
func TestBudgetInTheProgram(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	up.LimitPulls(3, time.Hour)
	first := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	p := startProxy(t, strings.Replace(file(up), "plainHTTP: true", "plainHTTP: true, keepBudget: 2", 1))
	wantImage(t, p.url, first, up)
	p.untilState(t, "fwd=stale; detail=budget")
	up.AddImage("team/app", "v1", upstreamtest.Layers(1, 2000))
	up.AddImage("team/app", "v2", upstreamtest.Layers(1, 3000))
	wantImage(t, p.url, first, up)
	if status, body := fetch(t, client(), p.url+"/v2/local/team/app/manifests/v2"); status != 200 {
		t.Errorf("what is not stored: status %d: %s", status, body)
	}
}

// TestEventOfAHold: a receiver that asks for it learns once from each process of an image that
// is held, and one that names no actions does not.
func TestEventOfAHold(t *testing.T) {
	up, asked, other := upstreamtest.NewRegistry(t), webhooktest.New(t), webhooktest.New(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	config := file(up, "store: dir:"+filepath.Join(t.TempDir(), "images")) + "    minAge: 72h\n" + fmt.Sprintf(`webhooks:
  - {url: %q, actions: [quarantine]}
  - {url: %q}
`, asked.URL(), other.URL())
	var ids []string
	for range 2 {
		p := startProxy(t, config)
		for range 3 {
			if status, body := fetch(t, client(), p.url+"/v2/local/team/app/manifests/v1"); status != http.StatusForbidden {
				t.Fatalf("status %d: %s", status, body)
			}
		}
		p.until(t, "the event", func() bool { return len(asked.Events()) > len(ids) })
		p.signal(t)
		p.wantExit(t, exitOK)
		for _, ev := range asked.Events()[len(ids):] {
			ids = append(ids, ev.ID)
			want := webhook.Target{MediaType: img.MediaType, Size: img.Size, Length: img.Size, Digest: img.Digest.String(), Repository: "local/team/app", Tag: "v1"}
			if ev.Action != webhook.ActionQuarantine || ev.Target != want {
				t.Errorf("%+v", ev)
			}
		}
	}
	if len(ids) != 2 {
		t.Errorf("events %q, want one from each process", ids)
	}
	if got := other.Events(); len(got) != 0 {
		t.Errorf("a receiver without actions got %+v", got)
	}
}
