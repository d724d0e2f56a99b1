package cache_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// keepTwo keeps two pulls of the upstream's budget.
func keepTwo(c *clock) {
	c.cache.KeepBudget = map[string]int{source: 2}
}

// response asks the handler.
func (c *clock) response(method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	c.cache.ServeHTTP(w, httptest.NewRequestWithContext(c.Context(), method, "/v2/"+path, nil))
	return w
}

// wantSpared checks that a tag is answered by an image without a request to the upstream.
func (c *clock) wantSpared(path string, img upstreamtest.Image) {
	c.Helper()
	c.up.Reset()
	for _, method := range []string{"HEAD", "GET"} {
		w := c.response(method, path)
		if w.Code != http.StatusOK || w.Header().Get("Docker-Content-Digest") != img.Digest.String() || w.Header().Get("Cache-Status") != "pullthrough; fwd=stale; detail=budget" {
			c.Errorf("%s %s: %d, %s, Cache-Status %q", method, path, w.Code, w.Header().Get("Docker-Content-Digest"), w.Header().Get("Cache-Status"))
		}
		if warning := w.Header().Get("Warning"); !strings.Contains(warning, "kept for what is not stored") {
			c.Errorf("%s %s: Warning %q", method, path, warning)
		}
	}
	c.pass(0)
	c.up.WantRequests()
}

// wantPulled checks that a pull by tag gets an image from the upstream.
func (c *clock) wantPulled(path string, img upstreamtest.Image) {
	c.Helper()
	w := c.response("GET", path)
	if w.Code != http.StatusOK || w.Header().Get("Docker-Content-Digest") != img.Digest.String() {
		c.Errorf("GET %s: %d, %s, want %s", path, w.Code, w.Header().Get("Docker-Content-Digest"), img.Digest)
	}
	c.pass(0)
}

func TestRestOfABudgetIsKept(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.LimitPulls(4, time.Hour)
		first := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.wantPulled("app/api/manifests/v1", first)
		second := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.wantPulled("app/api/manifests/v1", second)
		third := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 3000))
		c.wantSpared("app/api/manifests/v1", second)
		x, err := c.cache.Explain(t.Context(), "app/api", "v1")
		if err != nil || x.Trouble == nil || !strings.Contains(x.Trouble.Error(), "budget") || !strings.Contains(x.Text, "kept for what is not stored") {
			t.Errorf("%+v, %v", x, err)
		}

		// What is not stored is fetched as long as it can be.
		other := c.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 4000))
		c.wantPulled("app/api/manifests/v2", other)
		c.wantPulled("app/api/manifests/"+third.Digest.String(), third)
		if x, err := c.cache.Explain(t.Context(), "app/api", "v3"); err != nil || x.Trouble != nil {
			t.Errorf("%+v, %v", x, err)
		}
		c.wantSpared("app/api/manifests/v2", other)
		c.pass(time.Hour)
		fourth := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 5000))
		c.wantPulled("app/api/manifests/v1", fourth)
	}, keepTwo)
}

// TestBudgetThatIsBack: the first response that says that there is more is enough.
func TestBudgetThatIsBack(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.LimitPulls(2, time.Hour)
		c.wantPulled("app/api/manifests/v1", c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000)))
		c.up.LimitPulls(100, time.Hour)
		next := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 3000))
		if w := c.response("HEAD", "app/api/manifests/v2"); w.Code != http.StatusOK {
			t.Error(w.Code)
		}
		c.wantPulled("app/api/manifests/v1", next)
	}, keepTwo)
}

// TestBudgetAndMaxStale: what is too old for the rule is as good as not stored.
func TestBudgetAndMaxStale(t *testing.T) {
	inBubble(t, func(c *clock) {
		if err := c.rules.Replace(rule.Rule{Name: "team", Source: source + "/team/*", Target: "app/*", MaxStale: time.Minute}); err != nil {
			t.Fatal(err)
		}
		c.up.LimitPulls(3, 12*time.Hour)
		first := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.wantPulled("app/api/manifests/v1", first)
		next := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.wantSpared("app/api/manifests/v1", first)
		c.pass(2 * time.Minute)
		c.wantPulled("app/api/manifests/v1", next)
	}, keepTwo)
}

// shown is a credential of a rule.
type shown struct{ user, password string }

func (s shown) Credential(context.Context, auth.Request) (auth.Credential, error) {
	return auth.Credential{Username: s.user, Password: auth.NewSensitive(s.password)}, nil
}

// TestBudgetOfACredential: a budget is that of a host and a credential, and that of the
// address of the cache for all rules without one.
func TestBudgetOfACredential(t *testing.T) {
	for name, row := range map[string]struct {
		first, other auth.Authenticator
		shared       bool
	}{
		"another credential": {shown{"alice", "hunter2"}, shown{"bob", "hunter2"}, false},
		"the same":           {shown{"alice", "hunter2"}, shown{"alice", "hunter2"}, true},
		"none and none":      {nil, auth.Anonymous{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(c *clock) {
				if row.first != nil {
					c.up.RequireBasic(map[string]string{"alice": "hunter2", "bob": "hunter2"})
				}
				set := func(r rule.Rule) {
					if err := c.rules.Replace(r); err != nil {
						t.Fatal(err)
					}
				}
				set(rule.Rule{Name: "team", Source: source + "/team/*", Target: "app/*", Auth: row.first})
				if err := c.rules.Create(rule.Rule{Name: "other", Source: source + "/other/*", Target: "other/*", Auth: row.other}); err != nil {
					t.Fatal(err)
				}
				c.up.LimitPulls(10, time.Hour)
				theirs := c.up.AddImage("other/api", "v1", upstreamtest.Layers(1, 500))
				c.wantPulled("other/api/manifests/v1", theirs)
				c.up.LimitPulls(3, time.Hour)
				first := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
				c.wantPulled("app/api/manifests/v1", first)
				next, theirNext := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000)), c.up.AddImage("other/api", "v1", upstreamtest.Layers(1, 600))
				c.wantSpared("app/api/manifests/v1", first)
				if row.shared {
					c.wantSpared("other/api/manifests/v1", theirs)
				} else {
					c.wantPulled("other/api/manifests/v1", theirNext)
				}
				if row.first == nil {
					// Also before it has asked; and one that has a credential now is not concerned.
					reset := rule.Rule{Name: "other", Source: source + "/other/*", Target: "other/*", Freshness: -1}
					set(reset)
					c.wantSpared("other/api/manifests/v1", theirs)
					reset.Auth = shown{"carol", "hunter2"}
					set(reset)
					c.wantPulled("other/api/manifests/v1", theirNext)
					return
				}
				// With another credential there is another budget, of which nothing is known.
				c.up.RequireBasic(map[string]string{"carol": "hunter2"})
				set(rule.Rule{Name: "team", Source: source + "/team/*", Target: "app/*", Auth: shown{"carol", "hunter2"}})
				c.wantPulled("app/api/manifests/v1", next)
			}, keepTwo)
		})
	}
}

// TestCopiesForNobodyWaitForBudget: the platforms of an index that nobody has pulled are
// copied when the budget is back. Meanwhile the tag costs nothing, though nothing is
// stored for it yet.
func TestCopiesForNobodyWaitForBudget(t *testing.T) {
	inBubble(t, func(c *clock) {
		if err := c.rules.Replace(rule.Rule{Name: "team", Source: source + "/team/*", Target: "app/*", Platforms: []string{rule.AllPlatforms}}); err != nil {
			t.Fatal(err)
		}
		c.up.LimitPulls(4, time.Hour)
		index := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(1, 1000), "amd64", "arm64")
		pulled, other := index.Children[0], index.Children[1]
		c.response("GET", "app/other/manifests/v1") // costs one, found or not
		c.wantPulled("app/api/manifests/v1", index)
		c.wantPulled("app/api/manifests/"+pulled.Digest.String(), pulled)
		c.response("GET", "app/api/blobs/"+pulled.Layers[0].Digest.String())
		c.pass(time.Minute)
		if n := c.up.Count("GET", "manifest", other.Digest.String()); n != 0 {
			t.Fatalf("a platform that nobody pulled was asked for %d times", n)
		}
		waits := false
		for _, s := range c.cache.Copies() {
			waits = waits || s.State == cache.CopyPaused && s.Digest == index.Digest && strings.Contains(s.Err.Error(), "budget")
		}
		if !waits {
			t.Errorf("no copy says that it waits: %+v", c.cache.Copies())
		}
		c.wantSpared("app/api/manifests/v1", index)
		c.pass(2 * time.Hour)
		c.wantStored(index, "amd64", "arm64")
	}, keepTwo)
}

// TestNoBudgetKept: without KeepBudget, what a host says of its limits changes nothing.
func TestNoBudgetKept(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.LimitPulls(2, time.Hour)
		c.wantPulled("app/api/manifests/v1", c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000)))
		c.wantPulled("app/api/manifests/v1", c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000)))
		c.up.Reset()
		if c.response("GET", "app/api/manifests/v1"); c.up.Count("HEAD", "manifest", "v1") != 1 {
			t.Error("the upstream is not asked any more")
		}
	})
}

// mirrored asks another host in the place of that of a rule.
type mirrored struct {
	*upstream.Client
	host string
}

func (m mirrored) Open(s upstream.Source, a auth.Authenticator) (upstream.Repository, error) {
	s.Host = m.host
	return m.Client.Open(s, a)
}

// TestBudgetOfAMirror: what another host says that stands in for that of the rule is not
// about the host of the rule.
func TestBudgetOfAMirror(t *testing.T) {
	for host, spared := range map[string]bool{"mirror.example.com": false, source: true} {
		inBubble(t, func(c *clock) {
			c.up.LimitPulls(2, time.Hour)
			first := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			c.wantPulled("app/api/manifests/v1", first)
			next := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
			if spared {
				c.wantSpared("app/api/manifests/v1", first)
			} else {
				c.wantPulled("app/api/manifests/v1", next)
			}
		}, keepTwo, func(c *clock) {
			c.cache.Upstream = mirrored{c.cache.Upstream.(*upstream.Client), host}
		})
	}
}

// TestPrefetchWithoutBudget: what is prefetched is waited for.
func TestPrefetchWithoutBudget(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.LimitPulls(4, time.Hour)
		index := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(1, 1000), "amd64", "arm64")
		if err := c.cache.Prefetch(c.Context(), "app/api", "v1", cache.PrefetchOptions{}); err != nil {
			t.Fatal(err)
		}
		c.wantStored(index, "amd64", "arm64")
		err := c.cache.Prefetch(c.Context(), "app/api", "v2", cache.PrefetchOptions{})
		if e, ok := errors.AsType[*cache.Error](err); !ok || e.Status != http.StatusNotFound {
			t.Error(err)
		}
	}, keepTwo)
}
