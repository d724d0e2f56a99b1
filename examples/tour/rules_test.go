package tour

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// database finds rules where they are kept, and fails while that cannot be reached. A
// cache asks it at every request, so one that is far away should keep what it has read.
type database struct {
	rules rule.Matcher // stands for the rows
	down  atomic.Bool
}

// Match tells rules that cannot be read from a repository that no rule covers: that is
// rule.ErrNoMatch, and is true for good.
func (d *database) Match(ctx context.Context, repository string) (*rule.Match, error) {
	if d.down.Load() {
		return nil, errors.New("rules: the connection to the database was refused")
	}
	return d.rules.Match(ctx, repository)
}

// While the rules cannot be read, what is stored is served, and clients get 503 with
// Retry-After for the rest. Nobody has to do anything when they can be read again.
func TestRulesFromADatabaseThatFails(t *testing.T) {
	c, up := cachetest.New(t)
	db := &database{rules: c.Rules}
	c.Rules = db
	up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	up.AddImage("team/api", "v2", upstreamtest.Layers(2, 2000))
	client := &http.Client{Transport: c.Transport()}
	ask := func(tag string) *http.Response {
		resp, err := client.Get(fmt.Sprintf("http://cache/v2/hub/team/api/manifests/%s", tag))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	pull(t, c, "hub/team/api", "v1")

	db.down.Store(true)
	if r := ask("v1"); r.StatusCode != http.StatusOK || !strings.Contains(r.Header.Get("Cache-Status"), "fwd=stale") {
		t.Errorf("v1 is stored: status %d, %q", r.StatusCode, r.Header.Get("Cache-Status"))
	}
	if r := ask("v2"); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("v2 is not stored: status %d, Retry-After %q", r.StatusCode, r.Header.Get("Retry-After"))
	}

	db.down.Store(false)
	for _, tag := range []string{"v1", "v2"} {
		if r := ask(tag); r.StatusCode != http.StatusOK || strings.Contains(r.Header.Get("Cache-Status"), "fwd=stale") {
			t.Errorf("%s afterwards: status %d, %q", tag, r.StatusCode, r.Header.Get("Cache-Status"))
		}
	}
}
