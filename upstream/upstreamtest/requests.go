package upstreamtest

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Request is a request that the registry received.
type Request struct {
	Method     string
	Path       string
	Query      string
	Header     http.Header
	Kind       string // "manifest", "blob", "tags", "referrers", "token" or "other"
	Repository string
	Reference  string
}

// parse parses a path.
func parse(path string) (kind, repository, reference string) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		if path == "/token" {
			return "token", "", ""
		}
		return "other", "", ""
	}
	if name, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return "tags", name, ""
	}
	for _, k := range []string{"manifest", "blob", "referrer"} {
		if i := strings.LastIndex(rest, "/"+k+"s/"); i >= 0 {
			if k == "referrer" {
				return "referrers", rest[:i], rest[i+len(k)+3:]
			}
			return k, rest[:i], rest[i+len(k)+3:]
		}
	}
	return "other", "", ""
}

// Requests returns the requests since the last Reset, in order.
func (r *Registry) Requests() []Request { return r.log.All() }

// Count counts the requests since the last Reset with this method, kind and reference; an
// empty one matches all.
func (r *Registry) Count(method, kind, reference string) (n int) {
	return r.log.Count(func(q Request) bool {
		return (method == "" || q.Method == method) && (kind == "" || q.Kind == kind) && (reference == "" || q.Reference == reference)
	})
}

// BlobBytes returns how many bytes of a blob, or of all blobs if d is empty, were sent to
// clients since the last Reset, including bytes that a client did not wait for.
func (r *Registry) BlobBytes(d digest.Digest) (n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, v := range r.sent {
		if d == "" || k == d {
			n += v
		}
	}
	return n
}

// Open returns how many requests are under way.
func (r *Registry) Open() int { return r.server.Open() }

// Reset forgets the requests and bytes that were counted.
func (r *Registry) Reset() {
	r.log.Reset()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = map[digest.Digest]int64{}
}

// WantRequests reports whether the requests since the last Reset are these, in any order. If
// not, it complains with the differences. Each request is a method and a path, such as "GET /v2/team/app/manifests/v1".
func (r *Registry) WantRequests(want ...string) bool {
	if t := r.complaints.T; t != nil {
		t.Helper()
	}
	return r.complaints.Want("requests", r.log.Lines(func(q Request) string { return q.Method + " " + q.Path }), want)
}
