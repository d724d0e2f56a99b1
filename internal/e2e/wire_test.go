package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// wire is the reverse proxy in front of the registry, which records the requests of the proxy
// under test. It can also take the place of a registry that misbehaves.
type wire struct {
	host   string // 127.0.0.1:PORT
	server *httptest.Server

	mu      sync.Mutex
	log     []asked
	instead answerer
}

// answerer serves a request in place of the registry, or returns false to leave it to the
// registry.
type answerer func(w http.ResponseWriter, r *http.Request) bool

// asked is a request to the registry.
type asked struct{ method, path, agent string }

// newWire starts a wire to a registry. It ends with the test.
func newWire(t *testing.T, registry string) *wire {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: registry}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	w := &wire{}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// The request is noted before the response, so that a client that has the
		// response finds the request in the log.
		instead := w.note(asked{r.Method, r.URL.Path, r.UserAgent()})
		if instead == nil || !instead(rw, r) {
			forward.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(w.stop)
	w.host = strings.TrimPrefix(w.server.URL, "http://")
	return w
}

// stop makes the upstream unreachable: connections are refused from now on.
func (w *wire) stop() {
	w.server.CloseClientConnections()
	w.server.Close()
}

// misbehave makes instead serve requests from now on, as far as it returns true.
func (w *wire) misbehave(instead answerer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.instead = instead
}

// note records a request, and returns the answerer that may serve it, or nil.
func (w *wire) note(a asked) answerer {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, a)
	return w.instead
}

// take returns the requests since the last take.
func (w *wire) take() []asked {
	w.mu.Lock()
	defer w.mu.Unlock()
	log := w.log
	w.log = nil
	return log
}

// String returns the request in one line.
func (a asked) String() string {
	return fmt.Sprintf("%s %s (%s)", a.method, a.path, a.agent)
}

// show lists requests for the text of a failure.
func show(log []asked) string {
	var b strings.Builder
	for _, a := range log {
		b.WriteString("\n\t" + a.String())
	}
	return b.String()
}

// count returns how many requests have a method and a path.
func count(log []asked, method, path string) int {
	n := 0
	for _, a := range log {
		if a.method == method && a.path == path {
			n++
		}
	}
	return n
}

// wantNoBlobTwice fails if a blob was fetched more than once.
func wantNoBlobTwice(t *testing.T, log []asked) {
	t.Helper()
	times := map[string]int{}
	for _, a := range log {
		if a.method == http.MethodGet && strings.Contains(a.path, "/blobs/") {
			times[a.path]++
		}
	}
	for path, n := range times {
		if n > 1 {
			t.Errorf("%d GETs of %s at the upstream, want one:%s", n, path, show(log))
		}
	}
}

// wantNoDirect fails if a client sent a request to the upstream itself, by its User-Agent,
// which is not that of the proxy.
func wantNoDirect(t *testing.T, log []asked, agent string) {
	t.Helper()
	for _, a := range log {
		if strings.Contains(strings.ToLower(a.agent), agent) {
			t.Errorf("the client went around the proxy: %s", a)
		}
	}
}

// wantOneHead fails unless the only request was one HEAD of the tag.
func wantOneHead(t *testing.T, log []asked, repository, tag string) {
	t.Helper()
	path := "/v2/" + repository + "/manifests/" + tag
	if len(log) != 1 || log[0].method != http.MethodHead || log[0].path != path {
		t.Errorf("a warm pull asked the upstream, want exactly HEAD %s:%s", path, show(log))
	}
}
