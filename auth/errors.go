package auth

import (
	"fmt"
	"time"
)

// DeniedError says that an authenticator has no credential to give, and that
// this is final until somebody changes the set-up: an identity that is not
// assigned, a form that is not supported, a role that is missing. It reaches
// clients as 403 DENIED.
type DeniedError struct {
	// Reason is a sentence that may be shown to clients. It holds no secret.
	Reason string
	// Err is the cause, for the log; nil: none.
	Err error
}

// Error returns the reason, and the cause if there is one.
func (e *DeniedError) Error() string { return errorText(e.Reason, e.Err) }

// Unwrap returns the cause.
func (e *DeniedError) Unwrap() error { return e.Err }

// UnavailableError says that an authenticator has no credential to give for
// now: whoever issues it cannot be reached, is busy or broken. It reaches
// clients as 503 if nothing is stored that can be served instead, and it is the
// trouble of the one rule, not of its upstream.
type UnavailableError struct {
	// Reason is a sentence that may be shown to clients. It holds no secret.
	Reason string
	// RetryAfter is when to try again; 0: not known.
	RetryAfter time.Duration
	// Err is the cause, for the log; nil: none.
	Err error
}

// Error returns the reason, and the cause if there is one.
func (e *UnavailableError) Error() string { return errorText(e.Reason, e.Err) }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

func errorText(reason string, err error) string {
	if err != nil {
		return fmt.Sprintf("auth: %s: %v", reason, err)
	}
	return "auth: " + reason
}
