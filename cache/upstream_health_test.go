package cache_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// tenants are two rules on one host: victim's repositories, and those of a stranger
// who does all that a stranger can.
type tenants struct {
	*story
	img upstreamtest.Image
}

func newTenants(t *testing.T, setup ...func(*story)) *tenants {
	return tenantsOf(newStory(t, append(setup, stranger)...))
}

// tenantsOf are the tenants of a story that has the stranger's rule.
func tenantsOf(s *story) *tenants {
	m := &tenants{story: s}
	m.img = m.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	m.pull("app/api", "v1", m.img)
	m.settle()
	return m
}

// wantFresh fails unless the victim's tag is checked, and moves when it has moved.
func (m *tenants) wantFresh(after string) {
	m.Helper()
	next := m.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000+m.up.Count("", "", "")))
	r := m.manifest("app/api", "v1")
	if r.StatusCode != 200 || string(r.body) != string(next.Manifest) || strings.Contains(r.Header.Get("Cache-Status"), "stale") {
		m.Errorf("after %s the victim's tag is %q", after, r.Header.Get("Cache-Status"))
	}
}

// TestTroubleOfAStranger: whatever a stranger's client, upstream repository, redirect
// target, token server, authenticator or context does, the other rule on the host
// stays fresh. The rows at the end are trouble of the host, which is everybody's.
func TestTroubleOfAStranger(t *testing.T) {
	for name, c := range map[string]struct {
		setup func(m *tenants)
		do    func(m *tenants)
		hangs bool // until a limit of time is reached
		all   bool // it is the host's
	}{
		"a long CDN-Loop":    {do: func(m *tenants) { m.get("/v2/open/a/manifests/v1", "CDN-Loop", strings.Repeat("x", 100<<10)) }},
		"a foreign CDN-Loop": {setup: honoursLoops, do: func(m *tenants) { m.get("/v2/open/a/manifests/v1", "CDN-Loop", "Fastly") }},
		"a long query":       {do: func(m *tenants) { m.get("/v2/open/a/tags/list?x=" + strings.Repeat("x", 200<<10)) }},
		"an odd query": {setup: func(m *tenants) { m.up.Fail(upstreamtest.Fault{Kind: "tags", Status: 500}) },
			do: func(m *tenants) { m.get("/v2/open/a/tags/list?last=x") }},
		"5xx": {setup: func(m *tenants) { m.up.Fail(upstreamtest.Fault{Repository: "open/a", Status: 503}) }, do: touch},
		"429": {setup: func(m *tenants) { m.up.Fail(upstreamtest.Fault{Repository: "open/a", Status: 429, RetryAfter: "3600"}) }, do: touch},
		"a dead redirect target": {setup: func(m *tenants) {
			m.up.Fail(upstreamtest.Fault{Repository: "open/a", Redirect: "http://127.0.0.1:1/x"})
		}, do: touch},
		"a redirect target with 429":           {setup: redirectTo(429), do: touch},
		"a redirect target with 503":           {setup: redirectTo(503), do: touch},
		"a redirect target with 401":           {setup: redirectTo(401), do: touch},
		"a redirect that is refused":           {setup: func(m *tenants) { m.up.Fail(upstreamtest.Fault{Repository: "open/a", Redirect: "ftp://x/"}) }, do: touch},
		"connections that are cut":             {setup: func(m *tenants) { m.up.Fail(upstreamtest.Fault{Repository: "open/a", Do: cut}) }, do: touch},
		"an answer that is no HTTP":            {setup: func(m *tenants) { m.up.Fail(upstreamtest.Fault{Repository: "open/a", Do: noise}) }, do: touch},
		"a repository that hangs":              {setup: func(m *tenants) { m.up.Fail(upstreamtest.Fault{Repository: "open/a", Hang: true}) }, do: touch, hangs: true},
		"an authenticator that fails":          {setup: who(broken{errors.New("no")}), do: touch},
		"an authenticator that is unavailable": {setup: who(broken{&auth.UnavailableError{Reason: "busy", RetryAfter: time.Hour}}), do: touch},
		"an authenticator that denies":         {setup: who(broken{&auth.DeniedError{Reason: "no"}}), do: touch},
		"an authenticator that hangs":          {setup: who(hanging{}), do: touch, hangs: true},
		"a dead token server": {setup: func(m *tenants) {
			m.up.Fail(upstreamtest.Fault{Repository: "open/a", Challenge: `Bearer realm="https://127.0.0.1:1/token"`})
		}, do: touch},
		"callers with little time": {setup: func(m *tenants) { m.up.Fail(upstreamtest.Fault{Repository: "open/a", Latency: 100 * time.Millisecond}) },
			do: func(m *tenants) {
				for _, ref := range []string{"v1", someDigest} {
					ctx, cancel := context.WithTimeout(m.Context(), time.Millisecond)
					_, _ = m.cache.Resolve(ctx, "open/a", ref)
					_, _, _ = m.cache.Manifest(ctx, "open/a", ref)
					_, _ = m.cache.Repository("open/a").Exists(ctx, m.img.Layers[0])
					cancel()
				}
			}},
		"clients that leave": {setup: func(m *tenants) { m.up.Fail(upstreamtest.Fault{Repository: "open/a", Latency: 100 * time.Millisecond}) },
			do: func(m *tenants) {
				ctx, cancel := context.WithCancel(m.Context())
				time.AfterFunc(10*time.Millisecond, cancel)
				_, _ = m.cache.Resolve(ctx, "open/a", someDigest)
			}},
		"a bad digest": {setup: func(m *tenants) { m.up.Fail(upstreamtest.Fault{Repository: "open/a", WrongDigest: "sha256:zz"}) }, do: touch},
		"the host is down": {do: func(m *tenants) {
			m.up.Stop()
			touch(m)
			if err := m.up.Restart(); err != nil {
				m.Error(err)
			}
		}, all: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			happens := func(m *tenants) {
				m.up.AddImage("open/a", "v1", upstreamtest.Layers(1, 500))
				if c.setup != nil {
					c.setup(m)
				}
				c.do(m)
				if !c.all {
					m.wantFresh(name)
					return
				}
				r := m.manifest("app/api", "v1")
				if !strings.Contains(r.Header.Get("Cache-Status"), "stale") {
					m.Errorf("a host that is down is nobody's trouble: %q", r.Header.Get("Cache-Status"))
				}
			}
			if c.hangs {
				storyInBubble(t, func(s *story) { happens(tenantsOf(s)) }, stranger)
				return
			}
			// Nothing hangs here, so what is stale is so for another reason than a slow machine.
			happens(newTenants(t, func(s *story) { s.cache.Limits.StaleTimeout = time.Minute }))
		})
	}
}

// touch asks for everything of the stranger's repository.
func touch(m *tenants) {
	for _, method := range []string{"HEAD", "GET"} {
		for _, path := range []string{"manifests/v1", "manifests/" + someDigest, "blobs/" + digest.FromString("y").String(), "tags/list", "referrers/" + someDigest} {
			m.do(method, "/v2/open/a/"+path)
		}
	}
}

// honoursLoops is a registry behind something that refuses what has passed it before.
func honoursLoops(m *tenants) {
	m.up.AddImage("open/a", "v1", nil)
	m.up.Fail(upstreamtest.Fault{Repository: "open/a", Do: func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("CDN-Loop"), "Fastly") {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}})
}

// redirectTo sends everything of the stranger's to a server that answers so.
func redirectTo(status int) func(m *tenants) {
	return func(m *tenants) {
		target := upstreamtest.NewRegistry(m.T)
		target.Fail(upstreamtest.Fault{Status: status, RetryAfter: "86400"})
		m.up.Fail(upstreamtest.Fault{Repository: "open/a", Redirect: target.URL() + "/x"})
	}
}

func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func noise(w http.ResponseWriter, _ *http.Request) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_, _ = c.Write([]byte("this is not HTTP\r\n\r\n"))
		_ = c.Close()
	}
}

func who(a auth.Authenticator) func(m *tenants) {
	return func(m *tenants) {
		if err := m.rules.SetAuth("stranger", a); err != nil {
			m.Fatal(err)
		}
	}
}

// hanging waits as long as it may.
type hanging struct{}

func (hanging) Credential(ctx context.Context, _ auth.Request) (auth.Credential, error) {
	<-ctx.Done()
	return auth.Credential{}, ctx.Err()
}

// A rule whose wildcard covers many repositories is limited by its own host alone:
// not by the target of one repository's redirect.
func TestLimitOfATarget(t *testing.T) {
	s := newStory(t)
	target := upstreamtest.NewRegistry(t)
	target.Fail(upstreamtest.Fault{Status: 429, RetryAfter: "86400"})
	s.up.Fail(upstreamtest.Fault{Repository: "team/evil", Redirect: target.URL() + "/x"})
	other := s.up.AddImage("team/other", "v1", upstreamtest.Layers(1, 1000))
	for _, path := range []string{"manifests/v1", "blobs/" + someDigest, "tags/list"} {
		s.get("/v2/app/evil/" + path)
	}
	s.pull("app/other", "v1", other)
}

// Trouble of very many repositories does not make a limit forgotten.
func TestLimitIsNotForgotten(t *testing.T) {
	inBubble(t, func(c *clock) {
		if err := c.rules.Create(rule.Rule{Name: "limited", Source: "limited.example.com/*", Target: "limited/*"}); err != nil {
			c.Fatal(err)
		}
		c.up.Fail(upstreamtest.Fault{Repository: "x", Status: 429, RetryAfter: "3600"})
		_, _, err := c.cache.Manifest(c.Context(), "limited/x", "v1")
		if class, _ := upstream.ClassOf(err); class != upstream.Limited {
			c.Fatal(err)
		}
		c.up.Fail(upstreamtest.Fault{Status: 500})
		for i := range 9000 {
			_, _, _ = c.cache.Manifest(c.Context(), fmt.Sprintf("app/a%d", i), "v1")
		}
		c.up.Reset()
		_, _, err = c.cache.Manifest(c.Context(), "limited/x", "v1")
		if class, _ := upstream.ClassOf(err); class != upstream.Limited || c.up.Count("", "", "") != 0 {
			c.Errorf("%v, and the host was asked %d times", err, c.up.Count("", "", ""))
		}
	})
}

// TestRequireAccessOutlivesAnOutage: after the upstream has refused, nothing that
// comes after it makes the stored copy available again, but an answer.
func TestRequireAccessOutlivesAnOutage(t *testing.T) {
	for name, outage := range map[string]func(s *story){
		"refused":  func(s *story) { s.up.Stop() },
		"503":      func(s *story) { s.up.Fail(upstreamtest.Fault{Status: 503}) },
		"429":      func(s *story) { s.up.Fail(upstreamtest.Fault{Status: 429, RetryAfter: "60"}) },
		"hang":     func(s *story) { s.up.Fail(upstreamtest.Fault{Hang: true}) },
		"nonsense": func(s *story) { s.up.Fail(upstreamtest.Fault{Redirect: "ftp://x/"}) },
	} {
		storyInBubble(t, func(s *story) {
			s.replace(rule.Rule{RequireAccess: true})
			img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			s.pull("app/api", "v1", img)
			s.settle()
			s.up.Fail(upstreamtest.Fault{Kind: "manifest", Status: 403})
			s.wantError(s.manifest("app/api", "v1"), 403, "DENIED")
			s.up.Heal()
			outage(s)
			for _, method := range []string{"GET", "HEAD", "GET"} {
				if r := s.do(method, "/v2/app/api/manifests/v1"); r.StatusCode != 403 {
					s.Errorf("%s: %s: %d, want the refusal", name, method, r.StatusCode)
				}
			}
			s.up.Heal()
			if name == "refused" {
				if err := s.up.Restart(); err != nil {
					s.Fatal(err)
				}
			}
			if name == "429" {
				return // the host is left alone for a minute
			}
			deadline := time.Now().Add(10 * time.Second)
			for s.manifest("app/api", "v1").StatusCode != 200 {
				if time.Now().After(deadline) {
					s.Fatalf("%s: access that is granted again is not noticed", name)
				}
				time.Sleep(20 * time.Millisecond) // polls a condition; the deadline is the failure
			}
		}, func(s *story) {
			s.cache.Limits.AnswerTimeout, s.cache.Limits.StaleTimeout = 300*time.Millisecond, 200*time.Millisecond
		})
	}
}

// TestLoopOfOthersStaysWithItsRequest: what a client says of the caches that it passed
// is in no question that others share, and in no download.
func TestLoopOfOthersStaysWithItsRequest(t *testing.T) {
	s := newStory(t, func(s *story) { s.cache.ID = "me"; s.cache.Store = &store.Mem{} })
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "manifest", Latency: 100 * time.Millisecond, Times: 2})
	var all sync.WaitGroup
	for _, loop := range []string{"other", ""} {
		all.Go(func() {
			if r := s.get("/v2/app/api/manifests/v1", "CDN-Loop", loop); r.StatusCode != 200 {
				t.Errorf("%q: %d", loop, r.StatusCode)
			}
		})
	}
	all.Wait()
	for _, l := range img.Layers {
		s.get("/v2/app/api/blobs/"+l.Digest.String(), "CDN-Loop", "other")
	}
	s.settle()
	loops := map[string]int{}
	for _, q := range s.up.Requests() {
		loops[q.Kind+" "+q.Header.Get("CDN-Loop")]++
	}
	if loops["manifest me"] == 0 || loops["manifest other, me"] == 0 || loops["blob other, me"] != 0 || loops["blob me"] == 0 {
		t.Errorf("%v", loops)
	}
	s.up.Reset()
	for _, bad := range []string{strings.Repeat("x", 200), "a b", "a\tb", `"x"`, "ä"} {
		s.get("/v2/app/api/manifests/v1", "CDN-Loop", bad)
	}
	for _, q := range s.up.Requests() {
		if q.Header.Get("CDN-Loop") != "me" {
			t.Errorf("CDN-Loop %q is passed on", q.Header.Get("CDN-Loop"))
		}
	}
}

// An exchanged credential shares nothing with the former one: neither a fetch that is
// under way nor the trouble that the former one had.
func TestExchangedCredentialSharesNothing(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Times: 1, Latency: 300 * time.Millisecond, Status: 404})
	done := make(chan reply, 1)
	go func() { done <- s.manifest("app/api", img.Digest.String()) }()
	for s.up.Count("", "manifest", "") == 0 {
		time.Sleep(time.Millisecond) // polls a condition; the test's deadline is the failure
	}
	if err := s.rules.SetAuth("team", auth.Anonymous{}); err != nil {
		t.Fatal(err)
	}
	s.wantManifest("app/api", img.Digest.String(), img)
	if r := <-done; r.StatusCode != 404 {
		t.Errorf("the former fetch: %d", r.StatusCode)
	}
	s.up.Fail(upstreamtest.Fault{Status: 429, RetryAfter: "3600"})
	s.wantError(s.manifest("app/api", "v2"), 429, "TOOMANYREQUESTS")
	s.up.Heal()
	s.wantError(s.manifest("app/api", "v2"), 429, "TOOMANYREQUESTS")
	if err := s.rules.SetAuth("team", nil); err != nil {
		t.Fatal(err)
	}
	s.wantManifest("app/api", "v1", img)
}

// A replaced rule shares no tag check with the former one.
func TestReplacedRuleSharesNoQuestion(t *testing.T) {
	s := newStory(t)
	s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	next := s.up.AddImage("elsewhere/api", "v1", upstreamtest.Layers(1, 2000))
	s.up.Fail(upstreamtest.Fault{Repository: "team/api", Latency: 300 * time.Millisecond})
	done := make(chan reply, 1)
	go func() { done <- s.manifest("app/api", "v1") }()
	for s.up.Count("", "manifest", "") == 0 {
		time.Sleep(time.Millisecond) // polls a condition; the test's deadline is the failure
	}
	s.replace(rule.Rule{Source: s.up.Host() + "/elsewhere/*"})
	s.wantManifest("app/api", "v1", next)
	<-done
	s.wantManifest("app/api", "v1", next)
}
