package cache_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// gauge counts the questions that are under way, by host, and the most that were.
type gauge struct {
	next http.RoundTripper

	mu   sync.Mutex
	now  map[string]int
	most map[string]int
	all  int
}

func (g *gauge) RoundTrip(r *http.Request) (*http.Response, error) {
	g.count(r.URL.Host, 1)
	defer g.count(r.URL.Host, -1)
	return g.next.RoundTrip(r)
}

func (g *gauge) count(host string, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range []string{host, ""} {
		g.now[k] += n
		g.most[k] = max(g.most[k], g.now[k])
	}
	g.all += max(0, n)
}

// crowded is a cache with two rules at one host and one at another, whose upstreams
// take their time.
type crowded struct {
	*clock
	*gauge
	all sync.WaitGroup
}

const latency = 10 * time.Second

func inCrowd(t *testing.T, limits cache.Limits, test func(c *crowded)) {
	t.Helper()
	m := &crowded{}
	inBubble(t, func(c *clock) {
		m.clock = c
		for name, from := range map[string]string{"open": source + "/open/*", "far": "far.example.com/*"} {
			if err := c.rules.Create(rule.Rule{Name: name, Source: from, Target: name + "/*"}); err != nil {
				c.Fatal(err)
			}
		}
		c.up.Fail(upstreamtest.Fault{Latency: latency})
		test(m)
	}, func(c *clock) {
		m.gauge = &gauge{next: inMemory{c.up}, now: map[string]int{}, most: map[string]int{}}
		c.cache.Upstream = &upstream.Client{Transport: m.gauge}
		c.cache.Limits = limits
	})
}

// send sends a request on nobody's time.
func (m *crowded) send(ctx context.Context, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	m.cache.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, path, nil))
	return w
}

// asks are questions of every kind, each of its own for each number.
var asks = map[string]struct{ method, path string }{
	"a new tag":          {"GET", "manifests/t%d"},
	"a tag by HEAD":      {"HEAD", "manifests/t%d"},
	"a digest":           {"GET", "manifests/sha256:%064d"},
	"a digest by HEAD":   {"HEAD", "manifests/sha256:%064d"},
	"a blob by HEAD":     {"HEAD", "blobs/sha256:%064d"},
	"a list of tags":     {"GET", "tags/list?n=%d"},
	"a list of referrer": {"GET", "referrers/sha256:%064d"},
}

// patient is so patient that nobody is turned away.
func patient(l cache.Limits) cache.Limits {
	l.SlotTimeout, l.AnswerTimeout = time.Hour, time.Hour
	return l
}

// TestQuestionsToOneHostAreBounded: whatever clients ask, of whichever rule, a host is
// asked no more at once than it may be, and so are all hosts together.
func TestQuestionsToOneHostAreBounded(t *testing.T) {
	for name, ask := range asks {
		for _, c := range []struct {
			limits       cache.Limits
			targets      []string
			perHost, all int
		}{
			{cache.Limits{RequestsPerHost: 4}, []string{"app/a", "open/a"}, 4, 4},
			{cache.Limits{RequestsPerHost: 4}, []string{"app/a", "open/a", "far/a"}, 4, 8},
			{cache.Limits{RequestsPerHost: 4, Requests: 6}, []string{"app/a", "open/a", "far/a"}, 4, 6},
			{cache.Limits{RequestsPerHost: 4}, []string{"app/a"}, 4, 4},
		} {
			inCrowd(t, patient(c.limits), func(m *crowded) {
				for i := range 60 {
					target := c.targets[i%len(c.targets)]
					m.all.Go(func() { m.send(m.Context(), ask.method, "/v2/"+target+"/"+fmt.Sprintf(ask.path, i)) })
				}
				m.all.Wait()
				// What a rule leaves to others may be unused at the host that is its alone.
				if all := m.most[""]; m.most[source] != c.perHost || all > c.all || all < c.all-1 {
					m.Errorf("%s of %v: %d questions at once to one host and %d in all, want %d and about %d", name, c.targets, m.most[source], m.most[""], c.perHost, c.all)
				}
				if m.gauge.all < 60 {
					m.Errorf("%s: only %d questions were asked", name, m.gauge.all)
				}
			})
		}
	}
}

// A client whose question is not sent in time is told when to come again, and so is
// nobody who is served from here.
func TestQuestionThatIsNotSentInTime(t *testing.T) {
	for name, ask := range asks {
		inCrowd(t, cache.Limits{RequestsPerHost: 1, SlotTimeout: latency / 2, AnswerTimeout: time.Hour}, func(m *crowded) {
			m.all.Go(func() { m.send(m.Context(), "GET", "/v2/app/a/manifests/first") })
			m.pass(time.Second)
			begun := time.Now()
			w := m.send(m.Context(), ask.method, "/v2/app/a/"+fmt.Sprintf(ask.path, 1))
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || time.Since(begun) > latency {
				m.Errorf("%s: %d with Retry-After %q after %v", name, w.Code, w.Header().Get("Retry-After"), time.Since(begun))
			}
			m.all.Wait()
		})
	}
}

// TestAWaitingClientThatLeavesLeavesTheQueue: clients who left before their question
// was sent cost the upstream nothing, and those who stayed no time.
func TestAWaitingClientThatLeavesLeavesTheQueue(t *testing.T) {
	for name, ask := range asks {
		inCrowd(t, patient(cache.Limits{RequestsPerHost: 2}), func(m *crowded) {
			for i := range 2 {
				m.all.Go(func() { m.send(m.Context(), "GET", fmt.Sprintf("/v2/app/a/manifests/first%d", i)) })
			}
			m.pass(time.Second)
			ctx, leave := context.WithCancel(m.Context())
			for i := range 50 {
				m.all.Go(func() { m.send(ctx, ask.method, "/v2/app/a/"+fmt.Sprintf(ask.path, i)) })
			}
			m.pass(time.Second)
			leave()
			m.pass(time.Second)
			begun := time.Now()
			m.send(m.Context(), "GET", "/v2/app/a/manifests/honest")
			if d := time.Since(begun); d > 2*latency {
				m.Errorf("%s: who stayed waited for %v", name, d)
			}
			m.all.Wait()
			m.pass(time.Hour)
			if m.gauge.all != 3 {
				m.Errorf("%s: %d questions were sent, want 3", name, m.gauge.all)
			}
		})
	}
}

// TestClientsThatComeAndGo: who asks and leaves at once, again and again, has no more
// questions under way than anybody else.
func TestClientsThatComeAndGo(t *testing.T) {
	for name, ask := range asks {
		inCrowd(t, patient(cache.Limits{RequestsPerHost: 4}), func(m *crowded) {
			for i := range 600 {
				ctx, cancel := context.WithTimeout(m.Context(), 15*time.Millisecond)
				m.all.Go(func() {
					defer cancel()
					m.send(ctx, ask.method, "/v2/app/a/"+fmt.Sprintf(ask.path, i))
				})
				m.pass(time.Millisecond)
			}
			m.all.Wait()
			m.pass(time.Hour)
			if m.most[source] > 4 {
				m.Errorf("%s: %d questions at once", name, m.most[source])
			}
		})
	}
}

// TestListsAreAskedOnce: however many clients want a list, and however they word it,
// the upstream is asked once at a time.
func TestListsAreAskedOnce(t *testing.T) {
	for name, paths := range map[string][]string{
		"tags":             {"tags/list"},
		"a page":           {"tags/list?n=5&last=v1", "tags/list?last=v1&n=5", "tags/list?last=v1&n=5&ns=" + source},
		"referrers":        {"referrers/" + someDigest},
		"of a certain art": {"referrers/" + someDigest + "?artifactType=x%2Fy", "referrers/" + someDigest + "?artifactType=x/y"},
	} {
		inCrowd(t, patient(cache.Limits{Lists: 1000}), func(m *crowded) {
			m.up.AddImage("team/a", "v1", upstreamtest.Layers(1, 1000))
			for i := range 300 {
				m.all.Go(func() {
					if w := m.send(m.Context(), "GET", "/v2/app/a/"+paths[i%len(paths)]); w.Code != http.StatusOK {
						m.Errorf("%s: %d %s", name, w.Code, w.Body)
					}
				})
			}
			m.all.Wait()
			if n := m.gauge.all; n > 2 || m.most[""] > 1 {
				m.Errorf("%s: %d questions for 300 clients, %d at once", name, n, m.most[""])
			}
		})
	}
}

// TestProofsAreBounded: so are the questions whether an upstream has what another
// repository has here.
func TestProofsAreBounded(t *testing.T) {
	inCrowd(t, patient(cache.Limits{RequestsPerHost: 4}), func(m *crowded) {
		m.up.Heal()
		img := m.up.AddImage("team/api", "v1", upstreamtest.Layers(60, 20_000))
		m.manifest("v1")
		m.pass(time.Hour)
		for _, l := range img.Layers {
			m.up.AddBlob("open/a", m.up.Blob("team/api", l.Digest))
		}
		m.up.Fail(upstreamtest.Fault{Latency: latency})
		m.most[source], m.gauge.all = 0, 0
		for _, l := range img.Layers {
			m.all.Go(func() {
				if w := m.send(m.Context(), "GET", "/v2/open/a/blobs/"+l.Digest.String()); w.Code != http.StatusOK {
					m.Errorf("%d %s", w.Code, w.Body)
				}
			})
		}
		m.all.Wait()
		if m.most[source] != 4 || m.gauge.all != 60 {
			m.Errorf("%d questions, %d at once, want 60 and 4", m.gauge.all, m.most[source])
		}
	})
}
