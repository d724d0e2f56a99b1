package auth

import (
	"fmt"
	"time"
)

// DeniedError reports that an authenticator has no credential until an operator changes
// the configuration: an identity is not assigned, a form of authentication is not
// supported, or a role is missing. Clients receive it as 403 DENIED.
type DeniedError struct {
	// Reason is a sentence that may be shown to clients. It holds no secret.
	Reason string
	// Err is the cause, for the log, or nil.
	Err error
}

// Error returns the reason, and the cause if there is one.
func (e *DeniedError) Error() string { return errorText(e.Reason, e.Err) }

// Unwrap returns the cause.
func (e *DeniedError) Unwrap() error { return e.Err }

// UnavailableError reports that an authenticator has no credential for now: its issuer
// cannot be reached, is busy or has failed. Clients receive it as 503 if there is no
// stored content to serve instead. It affects only the one rule, and does not count as a
// failure of the upstream.
type UnavailableError struct {
	// Reason is a sentence that may be shown to clients. It holds no secret.
	Reason string
	// RetryAfter is how long to wait before trying again. If 0, that is unknown.
	RetryAfter time.Duration
	// Err is the cause, for the log, or nil.
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
