package upstreamtest

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Request is one request that the registry got.
type Request struct {
	Method     string
	Path       string
	Query      string
	Header     http.Header
	Kind       string // "manifest", "blob", "tags", "referrers", "token" or "other"
	Repository string
	Reference  string
}

// parse sorts a path.
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

// Requests returns what the registry was asked, in order, since the last
// Reset.
func (r *Registry) Requests() []Request { return r.log.All() }

// Count counts requests: kind and method empty mean any, and so does an empty
// reference.
func (r *Registry) Count(method, kind, reference string) (n int) {
	return r.log.Count(func(q Request) bool {
		return (method == "" || q.Method == method) && (kind == "" || q.Kind == kind) && (reference == "" || q.Reference == reference)
	})
}

// BlobBytes is how many bytes of a blob were sent to clients, what was on its way
// when one left included; of all blobs if d is empty.
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

// Open is how many requests are being answered.
func (r *Registry) Open() int { return r.server.Open() }

// Reset forgets requests and bytes that were counted.
func (r *Registry) Reset() {
	r.log.Reset()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = map[digest.Digest]int64{}
}

// WantRequests complains, with what differs, unless the requests since the last
// Reset are these, in any order, and reports whether they are. Each is a method
// and a path, such as "GET /v2/team/app/manifests/v1".
func (r *Registry) WantRequests(want ...string) bool {
	if t := r.complaints.T; t != nil {
		t.Helper()
	}
	return r.complaints.Want("requests", r.log.Lines(func(q Request) string { return q.Method + " " + q.Path }), want)
}
