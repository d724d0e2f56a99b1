package metrics_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/examples/proxy/metrics"
	"github.com/pullthrough/pullthrough/examples/proxy/prefetch"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// password is the secret of the credential set of a scene.
const password = "a-password-that-is-in-no-metric"

// scene is a cache with everything that has figures.
type scene struct {
	*testing.T
	up     *upstreamtest.Registry
	hook   *webhooktest.Recorder
	rec    *watch.Recorder
	source metrics.Source
}

// newScene returns a cache with a rule, a credential set and a receiver.
func newScene(t *testing.T) *scene {
	s := &scene{T: t, up: upstreamtest.NewRegistry(t), hook: webhooktest.New(t), rec: &watch.Recorder{}}
	s.up.RequireLogin(map[string]string{"alice": password}, nil)
	set := &auth.CredentialSet{Name: "registry-set", LoginServer: s.up.Host(), Username: auth.Value{Text: auth.NewSensitive("alice")}, Password: auth.Value{Text: auth.NewSensitive(password)}}
	rules, err := rule.NewSet(rule.Rule{Name: "local", Source: s.up.Host() + "/*", Target: "local/*", Auth: set})
	if err != nil {
		t.Fatal(err)
	}
	mem := &store.Mem{MaxBytes: 1 << 30}
	outbox := &webhook.Outbox{Records: mem, Receivers: []webhook.Receiver{{Name: "deploy", Sink: &webhook.HTTP{URL: s.hook.URL()}}}}
	if err := outbox.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := s.up.Client()
	client.Observe = s.rec.Call
	c := &cache.Cache{Rules: rules, Store: mem, Upstream: client, Events: outbox, Observe: s.rec.Request, Admit: admit}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, end := range []func(context.Context) error{c.Shutdown, outbox.Shutdown} {
			if err := end(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	s.source = metrics.Source{Cache: c, Recorder: s.rec, Outbox: outbox, Size: mem.Size, Credentials: func() []*auth.CredentialSet { return []*auth.CredentialSet{set} },
		Prefetch: func() prefetch.Stats { return prefetch.Stats{Images: 3, Copied: 2, Failed: 1} }, Fleet: threeReplicas{}}
	return s
}

// threeReplicas is a fleet of which one does not answer.
type threeReplicas struct{}

func (threeReplicas) Members(context.Context) []fleet.Member {
	return []fleet.Member{{Address: "10.0.0.7:5443", Self: true}, {Address: "10.0.0.8:5443"}, {Address: "10.0.0.9:5443", Dead: true}}
}

func (threeReplicas) Stats() fleet.Stats {
	return fleet.Stats{Filled: 1, Followed: 2, BytesReceived: 3, Served: 4, Refused: 5, Strangers: 6, Questions: 7, Failures: 8, Overtaken: 9, Given: 10, Taken: 11}
}

// admit admits everything but the tag new.
func admit(_ context.Context, c cache.Candidate) error {
	if c.Tag == "new" {
		return errors.New("it is new")
	}
	return nil
}

// pull sends a request through the cache and returns the status.
func (s *scene) pull(path string) int {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "http://cache.example.com/v2/"+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	resp, err := s.source.Cache.Transport().RoundTrip(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		s.Error(err)
	}
	return resp.StatusCode
}

// scrape returns what /metrics answers.
func scrape(t testing.TB, s metrics.Source) string {
	t.Helper()
	w := httptest.NewRecorder()
	metrics.Handler(s).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics: status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// until waits for something that another goroutine does.
func (s *scene) until(what string, done func() bool) {
	s.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("waiting for %s: not within 20 s", what)
		}
	}
}

// ours are the lines about this package's metrics.
func ours(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "pullthrough_") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// down is an upstream that fails every call.
func down(host string) upstream.Call {
	return upstream.Call{Source: upstream.Source{Host: host}, Op: upstream.OpBlob, Err: &upstream.Error{Class: upstream.Unreachable, Connect: true}}
}
