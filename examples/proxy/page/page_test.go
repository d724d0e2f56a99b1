package page_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

var tags = regexp.MustCompile(`<[^>]*>`)

// TestEmpty: a new proxy says what to do next, with a command.
func TestEmpty(t *testing.T) {
	body := newStage(t, hub()).get(t)
	has(t, body, "Ready for the first pull", "Nothing was pulled yet", "docker pull 127.0.0.1:5000/hub/library/alpine", "Not pulled yet", "docker.io/*", "hub/*", "Anonymous",
		"Nothing is being copied", "No receiver is set up", "There are no credential sets", "Not asked yet", "3.0 GiB", "90 GiB free")
	body = newStage(t).get(t)
	has(t, body, "No rules yet", "No rule yet: begin with one", "source: docker.io/*")
	hasNot(t, body, "docker pull")
}

// TestBusy: copies with how far they are, pulls with why, and figures.
func TestBusy(t *testing.T) {
	s := newStage(t, hub())
	s.cache.copies = []cache.CopyState{copyOf(1, cache.CopyQueued), copyOf(2, cache.CopyRunning)}
	s.cache.stats = cache.Stats{Copied: 7, BytesFetched: 5 << 20}
	s.record.pull(cache.Outcome{Status: 200, Rule: "docker-hub", Result: cache.ResultMiss, Reference: "v1", Access: cache.Access{Repository: "hub/team/app"}, Bytes: 1 << 20})
	s.record.pull(cache.Outcome{Status: 200, Rule: "docker-hub", Result: cache.ResultHit, Reference: digest.FromString("x").String(), Access: cache.Access{Repository: "hub/team/app"}})
	body := s.get(t)
	has(t, body, "Everything works", `<progress max="167772160" value="41943040" aria-label="Copied of hub/team-2/app">`, "25 %, 40 MiB of 160 MiB", "Running", "Queued",
		"hub/team/app:v1", "From upstream", "From here", "It is stored here, so the source was not asked.", "50 %", "5.0 MiB came from upstreams", "rule docker-hub, for 192.0.2.7",
		"hub/team/app@sha256:"+digest.FromString("x").Encoded()[:12]+"…")
	if strings.Index(body, "hub/team-2/app") > strings.Index(body, "hub/team-1/app") {
		t.Error("a copy that waits stands above one that runs")
	}
	has(t, s.get(t, "copies", "queued"), "hub/team-1/app")
	hasNot(t, s.get(t, "copies", "queued"), "hub/team-2/app")
	has(t, s.get(t, "copies", "parked"), "No copy is in this state now")
}

// TestCopiesElsewhere: of what another replica was given, the page says what that one does.
func TestCopiesElsewhere(t *testing.T) {
	for state, want := range map[cache.JobState]string{
		"":               `<span title="Another process was given it.">`,
		cache.JobComing:  `<span title="Another replica copies it.">`,
		cache.JobParked:  `<span title="It failed too often at another replica`,
		cache.JobSending: `<span title="Another replica has copied it; the events wait there for their receivers.">`,
	} {
		s := newStage(t, hub())
		s.cache.copies = []cache.CopyState{copyOf(1, cache.CopySubmitted), copyOf(2, cache.CopyRunning)}
		s.cache.copies[0].Elsewhere = state
		body := s.get(t)
		has(t, body, want, "1 running")
		if copies := strings.Count(body, "copies it."); copies > 1 || copies == 1 && state != cache.JobComing {
			t.Errorf("%q: another replica is said to copy it", state)
		}
	}
}

// TestTrouble: what is wrong comes first, with what it means.
func TestTrouble(t *testing.T) {
	set := &auth.CredentialSet{Name: "gh", LoginServer: "ghcr.io", Username: auth.Env("PAGE_TEST_NOT_SET"), Password: auth.Env("PAGE_TEST_NOT_SET")}
	s := newStage(t, hub(), rule.Rule{Name: "github", Source: "ghcr.io/*", Target: "gh/*", Auth: set}, rule.Rule{Name: "quay", Source: "quay.io/*", Target: "quay/*"})
	s.record.call("docker.io", &upstream.Error{Class: upstream.Unreachable, Owner: upstream.Home, Op: "GET", Err: errors.New("connection refused")})
	s.record.call("quay.io", &upstream.Error{Class: upstream.Limited, Owner: upstream.Home, Status: 429, RetryAfter: time.Hour, Op: "GET"})
	if _, err := set.Credential(t.Context(), auth.Request{Host: "ghcr.io"}); err == nil {
		t.Fatal("a secret that is not there was read")
	}
	s.cache.copies = []cache.CopyState{copyOf(1, cache.CopyParked)}
	s.cache.copies[0].Err = errors.New("the layer is not what its digest says")
	s.outbox.states = []webhook.ReceiverState{{Name: "scanner", Queued: 3, Failures: 4, Paused: time.Now().Add(time.Minute)}}
	s.record.pull(cache.Outcome{Status: 502, Rule: "quay", Reference: "v1", Access: cache.Access{Repository: "quay/a"}, Err: errors.New("it is down")})
	body := s.get(t)
	has(t, body, "5 things to look at", "docker.io is unreachable", "What is stored is served unchecked", "quay.io limits pulls", "Credentials gh do not work", "1 copy gave up for now",
		"Receiver scanner does not take events", "4 deliveries failed", "3 events wait", "the layer is not what its digest says", "Gave up", "Unreachable", "Limits pulls",
		"User name unreadable", "1 rule leads there", "Failed", "it is down")
	if docker, rest := strings.Index(body, "docker.io is unreachable"), strings.Index(body, "quay.io limits pulls"); docker > rest {
		t.Error("what is worse stands below")
	}
	for want, text := range map[string]string{"docker-hub": "Upstream unreachable", "github": "Credentials", "quay": "Upstream limits pulls"} {
		row := body[strings.Index(body, `<tr role="row" data-key="`+want+`">`):]
		has(t, row[:strings.Index(row, "</tr>")], text)
	}
}

// TestStoreTrouble: a full store, one that is nearly full, one that cannot be read, and a
// proxy that is not ready.
func TestStoreTrouble(t *testing.T) {
	s := newStage(t, hub())
	s.size.Free = 0
	has(t, s.get(t), "The store is full", "Pulls still work", "no room is left", "3.0 GiB used, no room left")
	s = newStage(t, hub())
	s.size.Free = 1 << 20
	has(t, s.get(t), "The store is nearly full", "1.0 MiB are left")
	s = newStage(t, hub())
	s.Size = func(context.Context) (store.Size, error) { return store.Size{}, errors.New("input/output error") }
	has(t, s.get(t), "The store is in trouble", "input/output error", "its size is not known")
	s = newStage(t, hub())
	s.Ready = func(context.Context) error { return errors.New("records cannot be read") }
	has(t, s.get(t), "The proxy is not ready", "records cannot be read")
	s = newStage(t, hub())
	s.Size = nil
	has(t, s.get(t), "Ready for the first pull", "its size is not known")
	s = newStage(t, hub())
	s.size.Free = -1
	has(t, s.get(t), "no limit is known")
}

// TestBudgetOfAHost: what a host allows shows with it.
func TestBudgetOfAHost(t *testing.T) {
	for left, want := range map[int]string{0: `<span class="state bad">0 of 100 left`, 9: `<span class="state warn">9 of 100 left`, 76: `<span class="state good">76 of 100 left`} {
		s := newStage(t, hub())
		s.record.Call(upstream.Call{
			Source: upstream.Source{Rule: "docker-hub", Host: "docker.io"}, Op: upstream.OpManifest, Status: 200,
			RateLimit: &upstream.RateLimit{Limit: 100, Remaining: left, Window: 6 * time.Hour, Source: "198.51.100.7", Account: "the key of an account"},
		})
		body := s.get(t)
		has(t, body, want, "counted for 198.51.100.7, in 6 h, said")
		hasNot(t, body, "the key of an account")
	}
}

// TestSizeIsAskedNowAndThen: many open pages do not ask the store more often.
func TestSizeIsAskedNowAndThen(t *testing.T) {
	s := newStage(t, hub())
	asked := 0
	s.Size = func(context.Context) (store.Size, error) { asked++; return s.size, nil }
	for range 20 {
		s.get(t)
	}
	if asked != 1 {
		t.Errorf("the store was asked %d times, want 1", asked)
	}
}

// TestClosedPageLeavesNoError: others do not see the end of a request of which the store was
// asked.
func TestClosedPageLeavesNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, hub())
		s.Size = func(context.Context) (store.Size, error) { time.Sleep(500 * time.Millisecond); return s.size, nil }
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		go s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil))
		time.Sleep(300 * time.Millisecond)
		hasNot(t, s.get(t), "The store is in trouble")
	})
}

// TestCredentialsThatNoRuleUses show too, and those of rules count once.
func TestCredentialsThatNoRuleUses(t *testing.T) {
	used := &auth.CredentialSet{Name: "in-use", LoginServer: "docker.io", Username: auth.Env("A"), Password: auth.Env("B")}
	r := hub()
	r.Auth = used
	s := newStage(t, r)
	s.Credentials = func() []*auth.CredentialSet {
		return []*auth.CredentialSet{used, {Name: "left-over", LoginServer: "ghcr.io"}}
	}
	body := s.get(t)
	for name, want := range map[string]string{"in-use": "1 rule<", "left-over": "0 rules<"} {
		row := body[strings.Index(body, `<tr role="row" data-key="`+name+`">`):]
		has(t, row[:strings.Index(row, "</tr>")], want)
	}
	if n := strings.Count(body, `<tr role="row" data-key="in-use">`); n != 1 {
		t.Errorf("a set shows %d times", n)
	}
}

// TestNoSecretAnywhere: neither passwords nor user names are on the page, whatever their
// health is.
func TestNoSecretAnywhere(t *testing.T) {
	set := &auth.CredentialSet{Name: "hub", LoginServer: "docker.io", Username: auth.Value{Text: auth.NewSensitive("alice-of-the-test")}, Password: auth.Value{Text: auth.NewSensitive("hunter2-of-the-test")}}
	r := hub()
	r.Auth = set
	s := newStage(t, r)
	s.cache.explain = func(string, string) (cache.Explanation, error) { return cache.Explanation{Rule: "docker-hub"}, nil }
	check := func(word string) {
		t.Helper()
		body := s.get(t, "explain", "hub/x")
		has(t, body, "Credentials hub", word)
		hasNot(t, body, "alice-of-the-test", "hunter2-of-the-test")
	}
	check("Not used yet")
	c, err := set.Credential(t.Context(), auth.Request{Host: "docker.io"})
	if err != nil {
		t.Fatal(err)
	}
	set.Accepted(auth.Request{Host: "docker.io"}, c)
	check("Healthy")
	_ = set.Refused(auth.Request{Host: "docker.io"}, c, auth.Refusal{Status: 401, Code: "UNAUTHORIZED", Unauthenticated: true}) // the error is for the caller of an upstream
	check("Refused")
}

// TestStoreThatHangs: a disk that does not answer keeps the page from nobody for long, and
// shows as what it is.
func TestStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, hub())
		release := make(chan struct{})
		var asked atomic.Int64
		s.Size = func(context.Context) (store.Size, error) { asked.Add(1); <-release; return s.size, nil }
		begun := time.Now()
		for range 5 {
			has(t, s.get(t), "The store is in trouble", "no answer since")
		}
		if took := time.Since(begun); took > 2*time.Second || asked.Load() != 1 {
			t.Errorf("five pages took %s and asked the store %d times", took, asked.Load())
		}
		close(release)
		time.Sleep(5 * time.Second)
		hasNot(t, s.get(t), "The store is in trouble")
	})
}

// TestPagesAtOnce: four pages are made at the same time, and others wait for them or leave.
func TestPagesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, hub())
		release := make(chan struct{})
		s.Ready = func(context.Context) error { <-release; return nil }
		ctx, cancel := context.WithCancel(t.Context())
		var done atomic.Int64
		ask := func(ctx context.Context) {
			s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil))
			done.Add(1)
		}
		for range 4 {
			go ask(t.Context())
		}
		synctest.Wait()
		go ask(ctx)
		synctest.Wait()
		if n := done.Load(); n != 0 {
			t.Errorf("%d pages are made, want none", n)
		}
		cancel()
		synctest.Wait()
		if n := done.Load(); n != 1 {
			t.Errorf("%d have left, want 1", n)
		}
		close(release)
		synctest.Wait()
		ask(t.Context())
		if n := done.Load(); n != 6 {
			t.Errorf("%d pages are done, want 6", n)
		}
	})
}

// TestHostileTexts: whatever strangers and upstreams send shows as text.
func TestHostileTexts(t *testing.T) {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'--><b>`
	s := newStage(t, hub())
	c := copyOf(1, cache.CopyPaused)
	c.ID, c.Repository, c.Tags, c.Digest, c.Err, c.Source.Repository = evil, evil, []string{evil}, digest.Digest(evil), errors.New(evil), evil
	c.Next = time.Now().Add(time.Minute)
	s.cache.copies = []cache.CopyState{c}
	for _, rule := range []string{"docker-hub", "", evil} {
		s.record.pull(cache.Outcome{Status: 500, Rule: rule, Reference: evil, Access: cache.Access{Repository: evil, Kind: cache.AccessKind(evil)}, Err: errors.New(evil)})
		s.record.pull(cache.Outcome{Status: 200, Rule: rule, Reference: evil, Access: cache.Access{Repository: evil}, Result: cache.ResultHit})
	}
	s.record.Client = func(*http.Request) string { return evil }
	s.record.call("docker.io", &upstream.Error{Class: upstream.Unreachable, Owner: upstream.Home, Op: evil, Err: errors.New(evil), Reason: evil})
	s.outbox.states = []webhook.ReceiverState{{Name: evil, Failures: 3, Delivered: 1}}
	s.outbox.deliveries = map[string][]webhook.Delivery{evil: {{
		Receiver: evil, Event: webhook.Event{ID: evil, Action: evil, Target: webhook.Target{Repository: evil, Tag: evil}}, Error: evil, Err: errors.New(evil), Time: time.Now(),
	}}}
	s.cache.explain = func(repository, reference string) (cache.Explanation, error) {
		if repository == "error" {
			return cache.Explanation{}, errors.New(evil)
		}
		return cache.Explanation{
			Repository: evil, Rule: evil, Source: upstream.Source{Host: evil, Repository: evil}, Stored: true, Digest: digest.Digest(evil), Text: evil,
			Trouble: errors.New(evil), Held: digest.Digest(evil), HeldErr: errors.New(evil), HeldUntil: time.Now().Add(time.Hour), Copy: &c,
		}, nil
	}
	s.Fleet = &fakeFleet{members: []fleet.Member{{Address: evil, Dead: true}}, blobs: []fleet.Blob{{Source: upstream.Source{Rule: evil, Host: evil, Repository: evil}, Digest: digest.Digest(evil), From: evil}}}
	s.Held = func() []cache.HeldTag {
		return []cache.HeldTag{{Repository: evil, Tag: evil, Digest: digest.Digest(evil), Former: digest.Digest(evil), Source: upstream.Source{Rule: evil}, Err: errors.New(evil)}}
	}
	s.Page.Try, s.Page.Address = evil, evil
	s.Ready = func(context.Context) error { return errors.New(evil) }
	for _, pairs := range [][]string{
		{}, {"explain", evil}, {"explain", "error"}, {"rules", evil}, {"hosts", evil}, {"copies", evil}, {"pulls", evil}, {"pulls", "trouble"}, {"pulls", "strangers"},
		{"span", evil}, {"receiver", evil}, {"done", evil}, {"after", evil, "copies", "paused"}, {"rulepage", evil},
	} {
		body := s.get(t, pairs...)
		hasNot(t, body, "<script>", "<img src=x", "<b>", "onerror=alert(1)>")
		if n := strings.Count(body, "<script"); n != 1 {
			t.Errorf("%q: %d scripts", pairs, n)
		}
	}
}

// TestHeaders: nothing from elsewhere, no frames, nothing kept.
func TestHeaders(t *testing.T) {
	s := newStage(t, hub())
	for _, path := range []string{"/", "/page.css", "/page.js", "/icon.svg", "/nothing"} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		h := w.Header()
		policy := h.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none';") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %q", path, policy)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "same-origin" {
			t.Errorf("%s: headers %v", path, h)
		}
		if want := path == "/nothing"; (w.Code == 404) != want {
			t.Errorf("%s: status %d", path, w.Code)
		}
		if path == "/" && h.Get("Cache-Control") != "no-store" {
			t.Errorf("the page may be kept: %v", h)
		}
		if tag := h.Get("ETag"); tag != "" {
			req := httptest.NewRequest("GET", path, nil)
			req.Header.Set("If-None-Match", tag)
			again := httptest.NewRecorder()
			s.ServeHTTP(again, req)
			if again.Code != http.StatusNotModified {
				t.Errorf("%s: status %d for what the browser has", path, again.Code)
			}
		}
	}
	body := s.get(t)
	for _, m := range regexp.MustCompile(`(?:src|href|action)="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		if !strings.HasPrefix(m[1], "/") && !strings.HasPrefix(m[1], "#") || strings.HasPrefix(m[1], "//") {
			t.Errorf("the page leads elsewhere: %s", m[0])
		}
	}
	hasNot(t, body, " style=", " onclick=", "<style")
}
