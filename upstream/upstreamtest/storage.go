package upstreamtest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
)

// signature is in the links to a [Storage], like a SAS token: a client with it may read. It
// must not appear in any error or log.
const signature = "sig=upstreamtest-signature"

// Storage is the object store behind a registry: a server of its own to which
// blobs are redirected. Like those of the large clouds, it refuses requests with a
// credential, and sends no digests.
type Storage struct {
	registry *Registry
	server   *Registry
	log      fakeserver.Log[Request]
}

// RedirectBlobs makes the registry redirect each GET of a blob, with 307 and a signed link,
// to a storage server, from now on. The storage ends with the registry.
func (r *Registry) RedirectBlobs() (*Storage, error) {
	server, err := Start()
	if err != nil {
		return nil, err
	}
	s := &Storage{registry: r, server: server}
	server.Fail(Fault{Do: s.serve})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.storage = s
	return s, nil
}

// Host is the storage's host and port.
func (s *Storage) Host() string { return s.server.Host() }

// Stop closes the storage, like one that is down.
func (s *Storage) Stop() { s.server.Stop() }

// Requests returns the requests that the storage received, in order.
func (s *Storage) Requests() []Request { return s.log.All() }

// link returns the link to a blob. Links of ACR have a double slash.
func (s *Storage) link(d digest.Digest) string {
	return "http://" + s.Host() + "//" + d.Encoded() + "/data?" + signature
}

func (s *Storage) serve(w http.ResponseWriter, req *http.Request) {
	s.log.Add(Request{Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Header: req.Header.Clone(), Kind: "storage"})
	for _, h := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
		if req.Header.Get(h) != "" {
			s.registry.complaints.Complain("%s reached the storage server", h)
			http.Error(w, "InvalidAuthenticationInfo", http.StatusBadRequest)
			return
		}
	}
	encoded, ok := strings.CutSuffix(strings.TrimPrefix(req.URL.Path, "//"), "/data")
	if !ok || req.URL.RawQuery != signature {
		http.Error(w, "AuthenticationFailed", http.StatusForbidden)
		return
	}
	body, ok := s.registry.anyBlob(encoded)
	if !ok {
		http.Error(w, "BlobNotFound", http.StatusNotFound)
		return
	}
	first, end, status := int64(0), int64(len(body)), http.StatusOK
	if v := req.Header.Get("Range"); v != "" {
		if first, end, ok = span(v, int64(len(body))); !ok {
			http.Error(w, "InvalidRange", http.StatusRequestedRangeNotSatisfiable)
			return
		}
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, end-1, len(body)))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(end-first, 10))
	w.WriteHeader(status)
	if req.Method == http.MethodGet {
		s.registry.pass(w, req, body[first:end])
	}
}

// anyBlob finds a blob in any repository.
func (r *Registry) anyBlob(encoded string) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.repos {
		for d, body := range p.blobs {
			if d.Encoded() == encoded {
				return body, true
			}
		}
	}
	return nil, false
}
