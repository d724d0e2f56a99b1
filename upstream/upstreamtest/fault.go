package upstreamtest

import (
	"net/http"
	"time"
)

// Fault is a failure of the registry. Of several faults that match a request, the first one
// that was added applies.
type Fault struct {
	// Method, Kind, Repository and Reference select requests; an empty one matches
	// all. Kind is that of [Request]. Reference is a tag or digest.
	Method, Kind, Repository, Reference string
	// Times is how often the fault applies. If 0, it always applies.
	Times int

	// Status is the status of the response, which has an OCI error body.
	Status int
	// RetryAfter is the Retry-After header of the response with Status.
	RetryAfter string
	// Latency is how long the header is delayed.
	Latency time.Duration
	// Hang sends no response until [Registry.Release] is called or the client gives up.
	// The other fields apply after that.
	Hang bool
	// Cut ends the connection after that many bytes of the body, unless it is 0. The
	// Content-Length is that of the whole body.
	Cut int64
	// Stall stops sending after that many bytes until [Registry.Release] is called or
	// the client gives up.
	Stall int64
	// Flip inverts a bit of the byte at the offset FlipAt of the content.
	Flip   bool
	FlipAt int64
	// NoLength sends no Content-Length, and so a chunked body.
	NoLength bool
	// WrongLength is how many more bytes the headers announce than the content has.
	WrongLength int64
	// IgnoreRange ignores the Range header, and sends 200 with the whole content.
	IgnoreRange bool
	// ShiftRange makes the range of the response begin that many bytes later.
	ShiftRange int64
	// NoDigest leaves Docker-Content-Digest out.
	NoDigest bool
	// WrongDigest is sent as Docker-Content-Digest.
	WrongDigest string
	// ContentType is sent instead of the correct one.
	ContentType string
	// ETag is sent with manifests instead of their digest, and compared with
	// If-None-Match. If it is "-", there are no ETags.
	ETag string
	// Encoding is sent as Content-Encoding.
	Encoding string
	// Challenge is sent as WWW-Authenticate with 401.
	Challenge string
	// Redirect is the URL of a response with status 307.
	Redirect string
	// Do, if not nil, serves the request; of the other fields, only Latency applies.
	Do http.HandlerFunc
}

// Fail adds a fault.
func (r *Registry) Fail(f Fault) { r.faults.Fail(f, f.Times) }

// Heal removes all faults. Requests that hang go on hanging.
func (r *Registry) Heal() { r.faults.Heal() }

// Release lets the requests that hang or stall now go on.
func (r *Registry) Release() { r.server.Release() }

// fault returns the fault that applies to a request, or the zero Fault.
func (r *Registry) fault(q Request) Fault {
	f, _ := r.faults.Next(func(f Fault) bool {
		return (f.Method == "" || f.Method == q.Method) && (f.Kind == "" || f.Kind == q.Kind) &&
			(f.Repository == "" || f.Repository == q.Repository) && (f.Reference == "" || f.Reference == q.Reference) &&
			(q.Kind != "token" || f.Kind == "token")
	})
	return f
}
