package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// story is a cache in front of a registry, and the verbs that tests speak.
type story struct {
	*testing.T
	up    *upstreamtest.Registry
	cache *cache.Cache
	rules *rule.Set
	web   *httptest.Server // nil in a bubble

	mu     sync.Mutex
	events []webhook.Event
	seen   []cache.Outcome
}

// newStory maps app/* to team/* of a fresh registry. Setup may change the cache
// before it is used.
func newStory(t *testing.T, setup ...func(*story)) *story {
	s := &story{T: t, up: upstreamtest.NewRegistry(t)}
	s.begin(s.up.Client(), append([]func(*story){unhurried}, setup...)...)
	s.serve()
	return s
}

// unhurried lets a pull of what is stored wait as long for the upstream as any other, for
// tests whose upstream answers.
func unhurried(s *story) { s.cache.Limits.StaleTimeout = 20 * time.Second }

// storyInBubble runs a story in a bubble of synctest, where a limit of time is reached if
// something waits for it, and not if the machine is slow. Nothing listens there.
func storyInBubble(t *testing.T, test func(s *story), setup ...func(*story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &story{T: t, up: upstreamtest.NewHandler()}
		s.begin(&upstream.Client{Transport: s.up.Transport()}, setup...)
		defer func() { // also when the test ends early, or the bubble never does
			if err := s.cache.Shutdown(context.Background()); err != nil {
				t.Error("Shutdown:", err)
			}
			for _, text := range s.up.Complaints() {
				t.Error(text)
			}
		}()
		test(s)
	})
}

// begin makes the rules and the cache.
func (s *story) begin(up upstream.Opener, setup ...func(*story)) {
	s.Helper()
	var err error
	s.rules, err = rule.NewSet(rule.Rule{Name: "team", Source: s.host() + "/team/*", Target: "app/*"})
	if err != nil {
		s.Fatal(err)
	}
	s.cache = &cache.Cache{Rules: s.rules, Store: &store.Mem{}, Upstream: up, Events: webhook.SinkFunc(s.event), Observe: s.outcome}
	for _, f := range setup {
		f(s)
	}
}

// host is the host of the registry, as rules name it.
func (s *story) host() string {
	if host := s.up.Host(); host != "" {
		return host
	}
	return source
}

// client reaches the cache under a URL.
func (s *story) client() (c *http.Client, url string) {
	if s.web == nil { // in a bubble
		return &http.Client{Transport: inMemory{s.cache}}, "http://cache"
	}
	return s.web.Client(), s.web.URL
}

func (s *story) serve() {
	s.web = httptest.NewServer(s.cache)
	web, c := s.web, s.cache
	s.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Shutdown(ctx); err != nil {
			s.Error("Shutdown:", err)
		}
	})
}

func (s *story) event(_ context.Context, ev webhook.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, ev)
	return nil
}

func (s *story) outcome(_ *http.Request, o cache.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, o)
}

// reply is an answer that was read to its end.
type reply struct {
	*http.Response
	body []byte
	err  error // of reading
	took time.Duration
}

func (s *story) do(method, path string, header ...string) reply {
	s.Helper()
	client, url := s.client()
	req, err := http.NewRequestWithContext(s.Context(), method, url+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	begun := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return reply{err: err, Response: &http.Response{Header: http.Header{}}}
	}
	defer resp.Body.Close()
	r := reply{Response: resp}
	r.body, r.err = io.ReadAll(resp.Body)
	r.took = time.Since(begun)
	return r
}

func (s *story) get(path string, header ...string) reply {
	s.Helper()
	return s.do("GET", path, header...)
}

func (s *story) manifest(repo, ref string) reply {
	s.Helper()
	return s.get("/v2/" + repo + "/manifests/" + ref)
}

func (s *story) wantManifest(repo, ref string, img upstreamtest.Image) reply {
	s.Helper()
	r := s.manifest(repo, ref)
	if r.StatusCode != 200 || !bytes.Equal(r.body, img.Manifest) {
		s.Fatalf("manifest %s:%s: status %d, %q %v, want %s", repo, ref, r.StatusCode, r.body, r.err, img.Digest)
	}
	if d := r.Header.Get("Docker-Content-Digest"); d != img.Digest.String() {
		s.Fatalf("Docker-Content-Digest %q, want %q", d, img.Digest)
	}
	return r
}

func (s *story) blob(repo string, d digest.Digest, header ...string) reply {
	s.Helper()
	return s.get("/v2/"+repo+"/blobs/"+d.String(), header...)
}

func (s *story) wantBlob(repo string, d digest.Digest) reply {
	s.Helper()
	r := s.blob(repo, d)
	if r.StatusCode != 200 || r.err != nil || digest.FromBytes(r.body) != d {
		s.Fatalf("blob %s@%s: status %d, %d bytes, %v", repo, d, r.StatusCode, len(r.body), r.err)
	}
	return r
}

// pull does what a client does with an image: manifest by tag, config, layers.
func (s *story) pull(repo, ref string, img upstreamtest.Image) {
	s.Helper()
	s.wantManifest(repo, ref, img)
	s.pullBlobs(repo, img)
}

func (s *story) pullBlobs(repo string, img upstreamtest.Image) {
	s.Helper()
	s.wantBlob(repo, img.Config.Digest)
	for _, l := range img.Layers {
		s.wantBlob(repo, l.Digest)
	}
}

// settle waits until no copy is under way but those that wait for clients. Its deadline is
// for copies that hang: a slow machine takes its time for large layers.
func (s *story) settle() {
	s.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		busy := s.cache.Stats().Downloads
		for _, c := range s.cache.Copies() {
			if c.State != "waiting" && c.State != "watching" && c.State != "paused" {
				busy++
			}
		}
		if busy == 0 {
			return
		}
		time.Sleep(2 * time.Millisecond) // polls a condition; the deadline is the failure
	}
	s.Fatalf("copies do not end: %+v", s.cache.Copies())
}

// wantEvents compares the events since the last call, as "repo:tag" or "repo@".
func (s *story) wantEvents(want ...string) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	got := map[string]int{}
	ids := map[string]bool{}
	for _, ev := range s.events {
		name := ev.Target.Repository + "@" + ev.Target.Digest
		if ev.Target.Tag != "" {
			name = ev.Target.Repository + ":" + ev.Target.Tag
		}
		if ev.Action == webhook.ActionDelete {
			name = "delete " + name
			ev.Target.Size, ev.Target.Length, ev.Action = 1, 1, "push" // a deletion tells no size
		}
		got[name]++
		if ids[ev.ID] {
			s.Errorf("two events have the id %s", ev.ID)
		}
		ids[ev.ID] = true
		if ev.Target.Size != ev.Target.Length || ev.Target.Size == 0 || ev.Action != "push" || ev.Timestamp.IsZero() {
			s.Errorf("event %+v", ev)
		}
	}
	for _, w := range want {
		got[w]--
	}
	for name, n := range got {
		if n != 0 {
			s.Errorf("event %s: %+d against what is wanted", name, n)
		}
	}
	s.events = nil
}

// wantUpstream counts the upstream requests since the last Reset, as "METHOD
// kind".
func (s *story) wantUpstream(want map[string]int) {
	s.Helper()
	got := map[string]int{}
	for _, q := range s.up.Requests() {
		got[q.Method+" "+q.Kind]++
	}
	for k, n := range want {
		if got[k] != n {
			s.Errorf("upstream got %d x %s, want %d", got[k], k, n)
		}
		delete(got, k)
	}
	for k, n := range got {
		s.Errorf("upstream got %d x %s, want none", n, k)
	}
}

func (s *story) wantError(r reply, status int, code string) {
	s.Helper()
	if r.StatusCode != status || !strings.Contains(string(r.body), fmt.Sprintf(`"code":%q`, code)) {
		s.Errorf("status %d %.200q, want %d %s", r.StatusCode, r.body, status, code)
	}
}
