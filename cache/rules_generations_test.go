package cache_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// line is a queue of clients who ask the same, one after the other: while the first
// question is under way, the others wait for the next one.
type line struct {
	*clock
	all sync.WaitGroup
}

// ask sends a request that waits; its answer is written to the recorder.
func (l *line) ask(path string, header ...string) *httptest.ResponseRecorder {
	l.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(l.Context(), http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	l.all.Go(func() { l.cache.ServeHTTP(w, r) })
	synctest.Wait() // it has joined
	return w
}

// inLine has the first question of a kind take a second, so that others can wait for
// the next.
func inLine(t *testing.T, test func(l *line, img upstreamtest.Image)) {
	t.Helper()
	inBubble(t, func(c *clock) {
		l := &line{clock: c}
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Fail(upstreamtest.Fault{Times: 1, Latency: time.Second})
		test(l, img)
	})
}

// TestAReplacedRuleSharesNoQuestion: who comes after a rule was replaced does not join
// the question that somebody put into line before.
func TestAReplacedRuleSharesNoQuestion(t *testing.T) {
	for path, words := range map[string]string{"manifests/v1": "", "tags/list": `"only-here"`} {
		inLine(t, func(l *line, _ upstreamtest.Image) {
			next := l.up.AddImage("elsewhere/api", "v1", upstreamtest.Layers(1, 2000))
			l.up.Tag("elsewhere/api", "only-here", next.Digest)
			l.ask("/v2/app/api/" + path)
			l.ask("/v2/app/api/" + path) // it is in line, by the former rule
			r := rule.Rule{Name: "team", Source: source + "/elsewhere/*", Target: "app/*"}
			if err := l.rules.Replace(r); err != nil {
				l.Fatal(err)
			}
			w := l.ask("/v2/app/api/" + path)
			l.all.Wait()
			ours := strings.Contains(w.Body.String(), words)
			if words == "" {
				ours = bytes.Equal(w.Body.Bytes(), next.Manifest)
			}
			if w.Code != http.StatusOK || !ours {
				l.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		})
	}
}

// TestLoopOfOthersStaysInItsQuestion: who waits in line behind a client that came
// through other caches does not send their names, and the other way round.
func TestLoopOfOthersStaysInItsQuestion(t *testing.T) {
	for _, path := range []string{"manifests/v1", "tags/list"} {
		inLine(t, func(l *line, _ upstreamtest.Image) {
			l.ask("/v2/app/api/" + path)
			l.ask("/v2/app/api/"+path, "CDN-Loop", "stranger") // it may not be the one whose words are sent
			l.ask("/v2/app/api/" + path)
			l.all.Wait()
			plain, loops := 0, 0
			for _, q := range l.up.Requests() {
				switch {
				case q.Kind == "blob": // of the copy behind it
				case strings.Contains(q.Header.Get("CDN-Loop"), "stranger"):
					loops++
				default:
					plain++
				}
			}
			if plain != 2 || loops != 1 {
				l.Errorf("%s: %d questions without the other's name and %d with it, want 2 and 1", path, plain, loops)
			}
		})
	}
}

// TestLoopOfOthersProvesNoBlob: a download and what goes before it are nobody's
// request, so the names of other caches are in neither.
func TestLoopOfOthersProvesNoBlob(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/a", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/a", "v1", img)
	s.settle()
	layer := img.Layers[0].Digest
	s.up.AddBlob("team/b", s.up.Blob("team/a", layer))
	s.up.Reset()
	if r := s.blob("app/b", layer, "CDN-Loop", "stranger"); r.StatusCode != http.StatusOK {
		t.Fatalf("status %d", r.StatusCode)
	}
	asked := s.up.Requests()
	for _, q := range asked {
		if strings.Contains(q.Header.Get("CDN-Loop"), "stranger") {
			t.Errorf("%s %s carries %q", q.Method, q.Path, q.Header.Get("CDN-Loop"))
		}
	}
	if len(asked) == 0 {
		t.Error("the upstream was not asked, so this shows nothing")
	}
}

// TestAnExchangedCredentialSharesNoFetch: a manifest that is being fetched with the
// former credential is fetched once more with the new one.
func TestAnExchangedCredentialSharesNoFetch(t *testing.T) {
	inBubble(t, func(c *clock) {
		l := &line{clock: c}
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Fail(upstreamtest.Fault{Method: "GET", Times: 1, Latency: time.Second, Status: http.StatusForbidden})
		former := l.ask("/v2/app/api/manifests/" + img.Digest.String())
		if err := c.rules.SetAuth("team", auth.Anonymous{}); err != nil {
			c.Fatal(err)
		}
		now := l.ask("/v2/app/api/manifests/" + img.Digest.String())
		l.all.Wait()
		if former.Code != http.StatusForbidden || now.Code != http.StatusOK {
			c.Errorf("the former credential: %d, the new one: %d %s", former.Code, now.Code, now.Body)
		}
	})
}

// TestAnExchangedCredentialEndsTrouble: what the former credential was told is not held
// against the new one, whoever's trouble it is but the host's.
func TestAnExchangedCredentialEndsTrouble(t *testing.T) {
	for name, fault := range map[string]upstreamtest.Fault{
		"429": {Status: http.StatusTooManyRequests, RetryAfter: "3600"},
		"503": {Status: http.StatusServiceUnavailable, RetryAfter: "3600"},
	} {
		inBubble(t, func(c *clock) {
			img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			c.manifest("v1")
			c.pass(time.Minute)
			c.up.Fail(fault)
			l := &line{clock: c}
			for range 2 {
				l.ask("/v2/app/api/manifests/v1")
			}
			c.up.Heal()
			ask := func() string {
				w := l.ask("/v2/app/api/manifests/v1")
				l.all.Wait()
				if !bytes.Equal(w.Body.Bytes(), img.Manifest) {
					c.Errorf("%s: %d %s", name, w.Code, w.Body)
				}
				return w.Header().Get("Cache-Status")
			}
			if state := ask(); !strings.Contains(state, "fwd=stale") {
				c.Errorf("%s: the former credential is not limited: %q", name, state)
			}
			if err := c.rules.SetAuth("team", auth.Anonymous{}); err != nil {
				c.Fatal(err)
			}
			if state := ask(); strings.Contains(state, "stale") {
				c.Errorf("%s: trouble of the former credential is the new one's: %q", name, state)
			}
		})
	}
}
