package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// Code says what kind of error it is.
type Code string

// The codes of this package. Errors of the cache have its OCI codes, such as MANIFEST_UNKNOWN.
const (
	CodeBody         Code = "BODY_INVALID"       // the body is no JSON of the expected form
	CodeBodySize     Code = "BODY_TOO_LARGE"     // the body has more than 64 KiB
	CodeBusy         Code = "BUSY"               // too many of this kind are under way
	CodeContentType  Code = "CONTENT_TYPE"       // the body is not application/json
	CodeCrossSite    Code = "CROSS_SITE"         // another site made a browser send the request
	CodeEnding       Code = "ENDING"             // the proxy is ending
	CodeFailed       Code = "FAILED"             // it was tried and did not work
	CodeHost         Code = "HOST_REFUSED"       // the request is for another name
	CodeMethod       Code = "METHOD_NOT_ALLOWED" // the method is none of this path
	CodeNotFound     Code = "NOT_FOUND"          // there is no such thing
	CodeOff          Code = "OFF"                // it is not configured who may do this
	CodeParameter    Code = "PARAMETER_INVALID"  // a parameter or a field of the body is wrong
	CodePath         Code = "PATH_INVALID"       // the path is not in its plain form
	CodeToken        Code = "TOKEN_UNREADABLE"   // the proxy cannot read its own token
	CodeUnauthorized Code = "UNAUTHORIZED"       // the proof is missing or wrong
	CodeUnsupported  Code = "UNSUPPORTED"        // the store cannot do this
)

// Error is what a request fails with. Its JSON is {"code": ..., "message": ...}.
type Error struct {
	// Status is the HTTP status.
	Status int `json:"-"`
	// Code says what kind of error it is.
	Code Code `json:"code"`
	// Message names what is wrong. It holds no secret.
	Message string `json:"message"`
	// RetryAfter is how long to wait before the next try. If zero, nothing is known about that.
	RetryAfter time.Duration `json:"-"`
	// Err is the cause, which clients do not see. It may be nil.
	Err error `json:"-"`
}

// Error returns code and message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// errorBody is the JSON of an answer that is an error.
type errorBody struct {
	Error *Error `json:"error"`
}

var errShortToken = errors.New("the token has fewer than 16 bytes")

// WriteError answers with an error, in the one form that errors have on this listener:
// {"error": {"code": ..., "message": ...}}.
func WriteError(w http.ResponseWriter, err *Error) {
	if d := err.RetryAfter; d > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10))
	}
	writeJSON(w, err.Status, errorBody{err})
}

// writeJSON answers with JSON.
func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		http.Error(w, "the answer has no JSON form", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(data)+1))
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(answerTimeout)) // without deadlines a client may be slow
	w.WriteHeader(status)
	// A client that has left, or does not read, needs no answer.
	_, _ = w.Write(append(data, '\n'))
	_ = rc.Flush()
	_ = rc.SetWriteDeadline(time.Time{}) // for the next request of the connection
}

// answerTimeout is how long a client may take for an answer.
const answerTimeout = 30 * time.Second

// throttle lets one through in a second. The zero value is ready to use.
type throttle struct {
	mu   sync.Mutex
	last time.Time
}

// pass reports whether a second has gone by since it reported true.
func (t *throttle) pass() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Sub(t.last) < time.Second {
		return false
	}
	t.last = now
	return true
}

// classify gives an error of the library that is no *cache.Error its status and code.
func classify(err error, out *Error) *Error {
	for _, known := range []struct {
		is     error
		status int
		code   Code
	}{
		{errors.ErrUnsupported, http.StatusNotImplemented, CodeUnsupported},
		{cache.ErrTooManyCopies, http.StatusTooManyRequests, CodeBusy},
		{store.ErrFull, http.StatusInsufficientStorage, CodeFailed},
		{webhook.ErrNoReceiver, http.StatusNotFound, CodeNotFound},
		{webhook.ErrNoEvent, http.StatusNotFound, CodeNotFound},
		{webhook.ErrClosed, http.StatusServiceUnavailable, CodeEnding},
		{os.ErrClosed, http.StatusServiceUnavailable, CodeEnding},
	} {
		if errors.Is(err, known.is) {
			out.Status, out.Code = known.status, known.code
			return out
		}
	}
	return out
}
