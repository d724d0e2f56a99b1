// Package auth defines OUTBOUND authentication: how a rule authenticates to its
// upstream.
//
// An [Authenticator] is attached to a rule and provides a [Credential] for one host. No
// other rule uses it: tokens that were obtained with a credential are kept per rule and
// per [Credential.Version], so that a new version means new tokens. The authentication
// of clients to the cache is not part of this package; see Authorize in package cache.
//
// An authenticator may have optional abilities, which are interfaces of their own that
// [As] finds: [Invalidator] or [Renewer], [Observer], [Checker].
//
// Secrets have the type [Sensitive], which does not print. The package imports no cloud
// SDK, so that a program that needs none links none.
package auth

import (
	"context"
	"errors"
	"time"
)

// ErrHost reports that an authenticator is not for the host of a request. Nothing was
// sent anywhere.
var ErrHost = errors.New("auth: the credential is not for this host")

// Request describes what a credential is needed for. It holds no secret.
type Request struct {
	// Rule is the name of the rule that needs the credential.
	Rule string
	// Host is the canonical upstream host, with a port if it is not 443.
	Host string
	// Repository is the upstream repository.
	Repository string
}

// Authenticator provides the credential of one rule. Implementations must be safe for
// concurrent use, and must themselves refuse a Host that they are not for, with an error
// that wraps [ErrHost]: the author of the rule, which names the host, may not be the
// owner of the credential.
type Authenticator interface {
	// Credential returns the credential for r.Host. It may do I/O and must respect
	// ctx. A [*DeniedError] means that there is no credential until an operator
	// changes the configuration, an [*UnavailableError] that there is none for now.
	// Clients may see their Reason; the text of any other error is only logged.
	Credential(ctx context.Context, r Request) (Credential, error)
}

// Invalidator is an optional ability of an [Authenticator] that caches secrets or
// tokens.
type Invalidator interface {
	// Invalidate is called when the upstream refused c, so that the next Credential
	// gets a new one; the request to the upstream is then repeated once. It must not
	// block on I/O.
	Invalidate(r Request, c Credential)
}

// Renewer is an optional ability of an [Authenticator], and a form of [Invalidator] that
// learns more: its method is called in place of Invalidate.
type Renewer interface {
	// Renew is called when the upstream refused c. unauthenticated says that the
	// token server, or a registry to which c is sent as it is, refused the credential
	// itself; otherwise the credential lacks a right. It must not block on I/O.
	Renew(r Request, c Credential, unauthenticated bool)
}

// Observer is an optional ability of an [Authenticator] that learns whether the upstream
// accepted a credential in the end. Its methods must not block on I/O.
type Observer interface {
	// Accepted is called when c was accepted for the first time, and for the first
	// time after a refusal.
	Accepted(r Request, c Credential)
	// Refused is called when c was refused, after Invalidate or Renew if one of them
	// is called at all. It may return an error that explains the refusal better
	// than the upstream did, preferably a [*DeniedError], or nil.
	Refused(r Request, c Credential, f Refusal) error
}

// Refusal describes how an upstream refused a credential.
type Refusal struct {
	// Status is the HTTP status: 400, 401 or 403.
	Status int
	// Code is the OCI error code. It may be empty.
	Code string
	// Message is the upstream's text, cut to a bounded length. It may repeat what was
	// sent, so it must not be passed on.
	Message string
	// Unauthenticated says that the token server, or a registry to which the
	// credential is sent as it is, refused the credential itself. Otherwise the
	// credential lacks a right.
	Unauthenticated bool
}

// Checker is an optional ability of an [Authenticator] that reports mistakes early, when
// a rule is made. It does not replace the check of the host in Credential.
type Checker interface {
	// Check reports why the authenticator cannot be used for host, or nil.
	Check(host string) error
}

// Credential authenticates requests to an upstream. The zero value is anonymous. A
// RefreshToken is sent to the token server, an AccessToken is sent to the registry as a
// bearer token, and Username and Password are used for Basic authentication and at the
// token server.
type Credential struct {
	Username     string
	Password     Sensitive
	RefreshToken Sensitive
	AccessToken  Sensitive
	// Expires is when the credential ceases to be valid. If zero, that is unknown.
	Expires time.Time
	// Version changes whenever the secret does. It is not a secret. Tokens that were
	// obtained with one version are not used with another.
	Version string
}

// Anonymous reports whether the credential is empty, so that requests are anonymous.
func (c Credential) Anonymous() bool {
	return c.Username == "" && c.Password.Empty() && c.RefreshToken.Empty() && c.AccessToken.Empty()
}

// Anonymous is the [Authenticator] without a credential. A nil Authenticator of a rule
// means the same.
type Anonymous struct{}

// Credential returns the zero Credential.
func (Anonymous) Credential(context.Context, Request) (Credential, error) { return Credential{}, nil }
