package cache

import (
	"context"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream"
)

// loopHeader carries the caches that a request has passed (RFC 8586), in the
// spelling of http.Header's keys.
const loopHeader = "Cdn-Loop"

// maxLoopID is the length of the longest name of a cache that is passed on.
const maxLoopID = 128

// hop returns what this cache sends upstream, and an error if the request has
// been here or has passed too many caches. What is no name of a cache is not passed
// on. A question that carries the names of others is shared by nobody else, and its
// failure says nothing about the upstream: a client could have made them up.
func (e *engine) hop(h http.Header) (string, *Error) {
	var passed []string
	for _, v := range h[loopHeader] {
		for id := range strings.SplitSeq(v, ",") {
			id, _, _ = strings.Cut(strings.TrimSpace(id), ";")
			switch id = strings.TrimSpace(id); {
			case id == "":
				continue
			case id == e.id:
				return "", &Error{Status: http.StatusLoopDetected, Code: CodeUnknown, Message: "a loop of caches: the request has passed this one before"}
			case len(passed) >= e.hops-1:
				return "", &Error{Status: http.StatusLoopDetected, Code: CodeUnknown, Message: "the request has passed too many caches"}
			}
			if isCDNID(id) {
				passed = append(passed, id)
			}
		}
	}
	if len(passed) == 0 {
		return "", nil
	}
	return strings.Join(append(passed, e.id), ", "), nil
}

// isCDNID reports whether id can be the name of a cache: a pseudonym or a host with a
// port (RFC 8586 section 2), of bounded length.
func isCDNID(id string) bool {
	if len(id) > maxLoopID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte("!#$%&'*+-.^_`|~:[]", c) < 0 {
			return false
		}
	}
	return true
}

// looped is the upstream of p whose requests say which caches they passed.
func (e *engine) looped(p place) upstream.Repository {
	return loopRepository{p.up, e.loopValue(p)}
}

// withLoop is ctx for requests to the upstream of p that do not go through looped.
func (e *engine) withLoop(ctx context.Context, p place) context.Context {
	return upstream.WithLoop(ctx, e.loopValue(p))
}

func (e *engine) loopValue(p place) string {
	if p.loop == "" {
		return e.id
	}
	return p.loop
}

// loopRepository adds the CDN-Loop header to every request.
type loopRepository struct {
	upstream.Repository
	value string
}

func (r loopRepository) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	return r.Repository.Resolve(upstream.WithLoop(ctx, r.value), reference)
}

func (r loopRepository) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	return r.Repository.Manifest(upstream.WithLoop(ctx, r.value), reference)
}

func (r loopRepository) Blob(ctx context.Context, d digest.Digest, offset, length int64) (upstream.Body, error) {
	return r.Repository.Blob(upstream.WithLoop(ctx, r.value), d, offset, length)
}

func (r loopRepository) StatBlob(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	return r.Repository.StatBlob(upstream.WithLoop(ctx, r.value), d)
}
