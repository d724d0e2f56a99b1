package upstream

import (
	"errors"
	"fmt"
	"time"
)

// Class sorts what can go wrong upstream by what follows from it.
type Class int

const (
	// Protocol: the upstream answered something that cannot be used: wrong
	// digest, wrong range, schema 1, a refused realm or address.
	Protocol Class = iota
	// Limited: 429. RetryAfter says for how long.
	Limited
	// Denied: 401, 403, 451 and other refusals.
	Denied
	// NotFound: 404.
	NotFound
	// Unreachable: refused, DNS, TLS, timeout (Status 0), or 5xx.
	Unreachable
)

// String names the class.
func (c Class) String() string {
	switch c {
	case Limited:
		return "limited"
	case Denied:
		return "denied"
	case NotFound:
		return "not found"
	case Unreachable:
		return "unreachable"
	}
	return "protocol"
}

// Owner says whose failure an [Error] is.
type Owner int

const (
	// Home is the rule's own host. It is the zero value, for Repositories that know
	// nothing else.
	Home Owner = iota
	// Issuer is the token server of the rule's host.
	Issuer
	// Elsewhere is where the rule's host led: the target of a redirect, or its token
	// server.
	Elsewhere
	// Authenticator is the rule's [auth.Authenticator], which had no credential to
	// give: nothing was asked upstream.
	Authenticator
	// Ours is this side: a request that could not be made, a proxy, rules that cannot
	// be read.
	Ours
	// Caller is the caller, who left or gave too little time.
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

// Error is what went wrong upstream. Its text names rule, source and operation
// and holds no secret.
type Error struct {
	Source Source
	// Op is what was tried: "HEAD manifest v1", "GET blob sha256:...".
	Op string
	// Class says what follows from it.
	Class Class
	// Owner says whose failure it is, and so for whom anything follows from it.
	Owner Owner
	// Connect says that there was no connection: DNS, dialling or TLS failed. It says
	// something about a whole host, where anything later is about one request.
	Connect bool
	// Status is the HTTP status; 0: there was no answer.
	Status int
	// Code is the OCI error code of the answer, if there was one.
	Code string
	// RetryAfter is what the upstream asked for; 0: nothing.
	RetryAfter time.Duration
	// Timeout says that the upstream was too slow.
	Timeout bool
	// Anonymous says that the rule had no credential to show.
	Anonymous bool
	// Reason says in a few words what is the matter, for clients too: it holds no
	// secret and nothing that the upstream wrote. Empty: Class and Status say it.
	Reason string
	// Err is the cause; nil: Status says it all.
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

// ClassOf returns the class of an error of this package and whether it is one.
func ClassOf(err error) (Class, bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class, true
	}
	return Protocol, false
}
