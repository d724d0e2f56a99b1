package upstream

import (
	"errors"
	"fmt"
	"time"
)

// Class sorts failures of an upstream by what follows from them. It is itself an error,
// so that errors.Is(err, Denied) asks for it. The zero value is no class.
type Class string

const (
	// Protocol means that a response cannot be used: it has a wrong digest or range,
	// is a schema 1 manifest, or leads to a host or an address that is refused.
	Protocol Class = "protocol"
	// Limited means 429. RetryAfter says for how long.
	Limited Class = "limited"
	// Denied means 401, 403, 451 or another refusal.
	Denied Class = "denied"
	// NotFound means 404.
	NotFound Class = "not found"
	// Unreachable means that there was no response, because of DNS, TLS, a refused
	// connection or a timeout (Status is then 0), or that its status is 5xx.
	Unreachable Class = "unreachable"
)

// Error returns the class.
func (c Class) Error() string { return string(c) }

// Owner says whose failure an [Error] is.
type Owner int

const (
	// Home is the rule's own host. It is the zero value, for Repositories that do not
	// distinguish owners.
	Home Owner = iota
	// Issuer is the token server of the rule's host.
	Issuer
	// Elsewhere is a host to which the rule's host led: the target of a redirect, or
	// the token server of that target.
	Elsewhere
	// Authenticator is the rule's [auth.Authenticator], which returned no credential:
	// nothing was sent to the upstream.
	Authenticator
	// Ours is this side: a request that could not be made, a proxy, or rules that
	// cannot be read.
	Ours
	// Caller is the caller, whose context was canceled or expired.
	Caller
)

// String names the owner.
func (o Owner) String() string {
	switch o {
	case Issuer:
		return "token server"
	case Elsewhere:
		return "elsewhere"
	case Authenticator:
		return "authenticator"
	case Ours:
		return "ours"
	case Caller:
		return "caller"
	}
	return "home"
}

// Error is a failure of an upstream, or on the way to it. Its text names rule, source
// and operation and holds no secret. errors.Is finds its Class and its cause.
type Error struct {
	Source Source
	// Op is the operation, such as "HEAD manifest v1" or "GET blob sha256:...".
	Op string
	// Class says what follows from the failure. If empty, the error is treated as one
	// that is no Error: as a failure of the Repository itself.
	Class Class
	// Owner says whose failure it is, and so whose requests it is of consequence for.
	Owner Owner
	// Connect says that there was no connection: DNS, dialling or TLS failed. That
	// concerns a whole host, while every later failure concerns one request.
	Connect bool
	// Status is the HTTP status, or 0 if there was no response.
	Status int
	// Code is the OCI error code of the response. It is empty if there was none.
	Code string
	// RetryAfter is how long the upstream asked to be left alone, or 0 if it did not.
	RetryAfter time.Duration
	// Timeout says that time ran out: the caller's, the Client's or, if there is a
	// Status, the upstream's own.
	Timeout bool
	// Anonymous says that the rule has no credential.
	Anonymous bool
	// Reason describes the failure in a few words that clients may see: it holds no
	// secret and nothing that the upstream wrote. If empty, there is nothing to say
	// besides Class and Status.
	Reason string
	// Err is the cause. If nil, there is nothing to say besides Status and Code.
	Err error
}

// Error names rule, source, operation and reason.
func (e *Error) Error() string {
	text := fmt.Sprintf("upstream: rule %q: %s: %s: %s", e.Source.Rule, e.Source, e.Op, e.Class)
	if e.Status != 0 {
		text += fmt.Sprintf(": status %d", e.Status)
	}
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the Class of e.
func (e *Error) Is(target error) bool {
	class, ok := target.(Class)
	return ok && class != "" && class == e.Class
}

// ClassOf returns the class of the outermost [*Error] in the chain of err, and whether
// there is one that has a class.
func ClassOf(err error) (Class, bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class, e.Class != ""
	}
	return "", false
}
