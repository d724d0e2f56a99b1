package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/upstream"
)

// Code is an error code of the OCI distribution spec.
type Code string

// The codes that this package answers with.
const (
	CodeBlobUnknown     Code = "BLOB_UNKNOWN"
	CodeDenied          Code = "DENIED"
	CodeDigestInvalid   Code = "DIGEST_INVALID"
	CodeManifestUnknown Code = "MANIFEST_UNKNOWN"
	CodeNameInvalid     Code = "NAME_INVALID"
	CodeNameUnknown     Code = "NAME_UNKNOWN"
	CodeTooManyRequests Code = "TOOMANYREQUESTS"
	CodeUnauthorized    Code = "UNAUTHORIZED"
	CodeUnsupported     Code = "UNSUPPORTED"
	CodeUnknown         Code = "UNKNOWN" // for statuses that OCI has no code for
)

// Error is what a pull failed with, as clients see it.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is the OCI code.
	Code Code
	// Message names rule and source and is shown to clients.
	Message string
	// RetryAfter is when to try again; 0: not told.
	RetryAfter time.Duration
	// Err is the cause. It is not shown to clients.
	Err error
}

// Error returns code, message and cause.
func (e *Error) Error() string {
	text := fmt.Sprintf("cache: %s: %s", e.Code, e.Message)
	cause := e.Err
	if d, ok := errors.AsType[*auth.DeniedError](cause); ok && strings.HasSuffix(e.Message, d.Reason) {
		cause = d.Err // the message has said the rest
	}
	if cause != nil {
		text += ": " + cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// kind is what was asked for.
type kind string

const (
	kindPing      kind = "ping"
	kindCatalog   kind = "catalog"
	kindManifest  kind = "manifest"
	kindBlob      kind = "blob"
	kindTags      kind = "tags"
	kindReferrers kind = "referrers"
)

// unknown is the code for something that is not there.
func (k kind) unknown() Code {
	switch k {
	case kindBlob:
		return CodeBlobUnknown
	case kindTags, kindReferrers, kindCatalog:
		return CodeNameUnknown
	}
	return CodeManifestUnknown
}

// fail is the one place that turns what went wrong into what clients are told.
func (p place) fail(k kind, err error) *Error {
	var told *Error
	if errors.As(err, &told) {
		return told
	}
	e := &Error{Status: http.StatusInternalServerError, Code: CodeUnknown, Err: err}
	what := fmt.Sprintf("%s of repository '%s'", k, p.repo)
	if p.match != nil {
		what = fmt.Sprintf("request to pull from source '%s' for cache rule '%s'", p.match.Source, p.match.Rule.Name)
	}
	var denied *auth.DeniedError
	var later *auth.UnavailableError
	var up *upstream.Error
	switch {
	case errors.As(err, &denied):
		e.Status, e.Code, e.Message = http.StatusForbidden, CodeDenied, what+": "+denied.Reason
	case errors.As(err, &later):
		e.Status, e.Message = http.StatusServiceUnavailable, what+": "+later.Reason
		e.RetryAfter = max(later.RetryAfter, 5*time.Second)
	case errors.As(err, &up):
		tell(e, up, k, what)
	case errors.Is(err, auth.ErrHost):
		e.Status, e.Code, e.Message = http.StatusForbidden, CodeDenied, what+": its credential is for another host"
	case errors.Is(err, errUnknown), errors.Is(err, errGone):
		e.Status, e.Code, e.Message = http.StatusNotFound, k.unknown(), what+": it is not known"
	case errors.Is(err, errNoRule):
		e.Status, e.Code, e.Message = http.StatusNotFound, CodeNameUnknown, fmt.Sprintf("repository '%s' is not known: no cache rule covers it and nothing is stored", p.repo)
	case errors.Is(err, flight.ErrBusy):
		e.Status, e.Message, e.RetryAfter = http.StatusServiceUnavailable, what+" found no free place; try again", 5*time.Second
	case errors.Is(err, flight.ErrClosed), errors.Is(err, errShutdown):
		e.Status, e.Message, e.RetryAfter = http.StatusServiceUnavailable, what+": shutting down", 5*time.Second
	case errors.Is(err, context.DeadlineExceeded):
		e.Status, e.Message = http.StatusGatewayTimeout, what+" took too long"
	case errors.Is(err, context.Canceled):
		e.Status, e.Message = 499, what+" was given up" // nobody is there to read it
	default:
		e.Message = what + " has failed"
	}
	return e
}

// tell is the part of the table for what an upstream answered.
func tell(e *Error, up *upstream.Error, k kind, what string) {
	e.RetryAfter = up.RetryAfter
	switch {
	case up.Timeout:
		e.Status, e.Message = http.StatusGatewayTimeout, what+" took too long"
	case up.Class == upstream.Limited:
		e.Status, e.Code, e.Message = http.StatusTooManyRequests, CodeTooManyRequests, "too many requests: "+what+" was refused for now"
	case up.Class == upstream.Denied:
		e.Status, e.Code, e.Message = http.StatusForbidden, CodeDenied, "denied: "+what+" has been denied"
	case up.Class == upstream.NotFound:
		e.Status, e.Code, e.Message = http.StatusNotFound, k.unknown(), what+": it is not known there"
		if Code(up.Code) == CodeNameUnknown {
			e.Code = CodeNameUnknown
		}
	case up.Class == upstream.Unreachable:
		e.Status, e.Message = http.StatusBadGateway, what+" has failed: the source cannot be reached"
		if up.Status != 0 {
			e.Message = fmt.Sprintf("%s has failed: the source answered %d", what, up.Status)
		}
	default:
		e.Status, e.Message = http.StatusBadGateway, what+" has failed: the source's answer cannot be used"
	}
}

// errUnknown reports that upstream and store do not have it.
var errUnknown = errors.New("cache: not known")

// errNoRule reports a repository without rule and content.
var errNoRule = errors.New("cache: no rule covers the repository")

// write answers with the OCI error envelope.
func (e *Error) write(w http.ResponseWriter, head bool) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	type entry struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
	}
	body, _ := json.Marshal(map[string][]entry{"errors": {{e.Code, e.Message}}})
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.Status)
	if !head {
		_, _ = w.Write(body)
	}
}
