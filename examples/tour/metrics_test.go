package tour

import (
	"expvar"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// metrics counts what clients get and what that costs at the upstreams. A program
// publishes the maps: expvar.Publish("pulls", &m.pulls).
type metrics struct {
	pulls, calls expvar.Map
	log          *slog.Logger
}

// request is for cache.Cache.Observe. Labels have few values: names of rules, results and
// operations, but not tags and digests.
func (m *metrics) request(r *http.Request, o cache.Outcome) {
	m.pulls.Add(string(o.Access.Kind)+" "+string(o.Result), 1)
	level := slog.LevelDebug
	if o.Status >= 500 { // with Observe set, the cache does not log them itself
		level = slog.LevelError
	}
	m.log.Log(r.Context(), level, "pull", "repository", o.Access.Repository, "reference", o.Reference, "rule", o.Rule,
		"status", o.Status, "bytes", o.Bytes, "duration", o.Duration, "cache", o.CacheState, "error", o.Err)
}

// call is for upstream.Client.Observe, which tells no context: a call may serve many
// requests.
func (m *metrics) call(c upstream.Call) {
	class, _ := upstream.ClassOf(c.Err) // empty if the upstream did not fail
	m.calls.Add(string(c.Op)+" "+string(class), 1)
	m.log.Debug("upstream", "source", c.Source, "op", c.Op, "reference", c.Reference,
		"status", c.Status, "bytes", c.Bytes, "duration", c.Duration, "error", c.Err)
}

// Two hooks tell all that is to be measured.
func TestMetrics(t *testing.T) {
	m := &metrics{log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	c, up := cachetest.New(t)
	client := up.Client()
	client.Observe = m.call
	c.Upstream, c.Observe = client, m.request
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))

	get := func(path string) {
		resp, err := (&http.Client{Transport: c.Transport()}).Get("http://cache/v2/hub/team/api/" + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body) // to its end, after which Observe has been called
		_ = resp.Body.Close()
	}
	get("manifests/v1")
	get("manifests/v2") // there is none
	if err := c.Idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	get("manifests/v1")
	get("blobs/" + img.Layers[0].Digest.String())
	end(t, c) // the calls of downloads have ended, too

	for what, want := range map[string]string{
		"manifest miss": "2", "manifest checked": "1", "blob hit": "1",
	} {
		if n := m.pulls.Get(what); n == nil || n.String() != want {
			t.Errorf("pulls %q: %v, want %s", what, n, want)
		}
	}
	for what, want := range map[string]string{
		"resolve ": "1", "manifest ": "1", "manifest not found": "1", "blob ": "2",
	} {
		if n := m.calls.Get(what); n == nil || n.String() != want {
			t.Errorf("calls %q: %v, want %s", what, n, want)
		}
	}
	t.Log(m.pulls.String(), m.calls.String())
}
