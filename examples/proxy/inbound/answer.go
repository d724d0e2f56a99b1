package inbound

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

// answer writes an error in the envelope of the OCI distribution spec, and observes it.
func (g *Gate) answer(w http.ResponseWriter, r *http.Request, a cache.Access, e *cache.Error) {
	h := w.Header()
	h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	if c, ok := errors.AsType[*cache.Challenge](e); ok {
		h.Set("WWW-Authenticate", c.Header)
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	type entry struct {
		Code    cache.Code `json:"code"`
		Message string     `json:"message"`
	}
	n := writeJSON(w, r, e.Status, map[string][]entry{"errors": {{e.Code, e.Message}}})
	g.observe(r, a, e.Status, n, e)
}

// writeJSON writes an answer that no cache on the way may keep, and returns the bytes of its body.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, content any) int64 {
	body, _ := json.Marshal(content) // made of texts and numbers
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return 0
	}
	n, _ := w.Write(body)
	return int64(n)
}

// observe tells of a request that the Gate has answered.
func (g *Gate) observe(r *http.Request, a cache.Access, status int, bytes int64, err error) {
	if g.Observe == nil {
		return
	}
	took := time.Since(g.visitOf(r).begun)
	g.Observe(r, cache.Outcome{Method: methodOf(r), Access: a, Status: status, Bytes: bytes, Duration: took, FirstByte: took, Err: err})
}

// methodOf is the method of a request, or OTHER for one that HTTP does not know, so that clients make up
// none.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "OTHER"
}
