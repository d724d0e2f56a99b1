package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/auth"
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

// Error returns the code, so that errors.Is(err, CodeDenied) tells what an [*Error] is.
func (c Code) Error() string { return string(c) }

// Error is what a pull failed with, as clients see it.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is the OCI code.
	Code Code
	// Message names rule and source and is shown to clients.
	Message string
	// RetryAfter is how long to wait before the next try. If zero, nothing is known
	// about that.
	RetryAfter time.Duration
	// Err is the cause. It is not shown to clients.
	Err error
}

// Error returns code, message and cause, and nothing twice.
func (e *Error) Error() string {
	text := fmt.Sprintf("cache: %s: %s", e.Code, e.Message)
	cause := e.Err
	if d, ok := errors.AsType[*auth.DeniedError](cause); ok && strings.Contains(e.Message, d.Reason) {
		cause = d.Err // the message has said the rest
	}
	if cause != nil && !strings.Contains(e.Message, cause.Error()) {
		text += ": " + cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the code of e.
func (e *Error) Is(target error) bool { return target == error(e.Code) }

// unknown is the code for something that is not there.
func (k AccessKind) unknown() Code {
	switch k {
	case AccessBlob:
		return CodeBlobUnknown
	case AccessTags, AccessReferrers, AccessCatalog:
		return CodeNameUnknown
	}
	return CodeManifestUnknown
}

// errUnknown reports that upstream and store do not have it.
var errUnknown = errors.New("cache: not known")

// errNoRule reports a repository without rule and content.
var errNoRule = errors.New("cache: no rule covers the repository")

// write answers with the OCI error envelope. What a HEAD has no body for goes into a
// Warning.
func (e *Error) write(w http.ResponseWriter, head bool) {
	h := w.Header()
	if head {
		warn(h, e.Message)
	}
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
