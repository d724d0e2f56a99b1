package upstreamtest

import (
	"net/http"
	"time"
)

// Fault is what goes wrong. The first one that fits a request happens.
type Fault struct {
	// Method, Kind and Reference say which requests; empty: any. Kind is that
	// of [Request], Reference a tag or digest, Repository a repository.
	Method, Kind, Repository, Reference string
	// Times is how often it happens; 0: always.
	Times int

	// Status answers with that status and an OCI error body.
	Status int
	// RetryAfter is the header of that name.
	RetryAfter string
	// Latency is waited before the header.
	Latency time.Duration
	// Hang sends nothing until [Registry.Release] or the client leaves; what the
	// other fields say comes after it.
	Hang bool
	// Cut ends the connection after that many bytes of the body; 0: no. The
	// Content-Length is the whole one.
	Cut int64
	// Stall stops sending after that many bytes, until [Registry.Release] or the
	// client leaves.
	Stall int64
	// Flip inverts a bit of the byte at FlipAt of the content.
	Flip   bool
	FlipAt int64
	// NoLength sends no Content-Length (and chunks).
	NoLength bool
	// WrongLength announces that many bytes more than there are, of the whole.
	WrongLength int64
	// IgnoreRange answers 200 with everything.
	IgnoreRange bool
	// ShiftRange answers with a range that begins that much later.
	ShiftRange int64
	// NoDigest leaves Docker-Content-Digest out.
	NoDigest bool
	// WrongDigest is sent as Docker-Content-Digest.
	WrongDigest string
	// ContentType is sent instead of the right one.
	ContentType string
	// ETag is sent with manifests in place of their digest, and is what
	// If-None-Match is compared with; "-": there are no ETags.
	ETag string
	// Encoding is sent as Content-Encoding.
	Encoding string
	// Challenge is sent as WWW-Authenticate with 401.
	Challenge string
	// Redirect answers 307 to that URL.
	Redirect string
	// Do answers instead of everything else.
	Do http.HandlerFunc
}

// Fail adds a fault.
func (r *Registry) Fail(f Fault) { r.faults.Fail(f, f.Times) }

// Heal removes all faults. What hangs goes on hanging.
func (r *Registry) Heal() { r.faults.Heal() }

// Release lets the requests go on that hang or stall now.
func (r *Registry) Release() { r.server.Release() }

// fault finds what goes wrong with a request; the zero Fault is nothing.
func (r *Registry) fault(q Request) Fault {
	f, _ := r.faults.Next(func(f Fault) bool {
		return (f.Method == "" || f.Method == q.Method) && (f.Kind == "" || f.Kind == q.Kind) &&
			(f.Repository == "" || f.Repository == q.Repository) && (f.Reference == "" || f.Reference == q.Reference) &&
			(q.Kind != "token" || f.Kind == "token")
	})
	return f
}
