// Package auth is about OUTBOUND proof: what one rule shows to its upstream.
//
// An [Authenticator] is attached to a rule and gives a [Credential] for one
// host. It is never lent to another rule: tokens that are earned with a
// credential are kept per rule and per [Credential.Version], so a new version
// means new tokens. What clients of the cache show to the cache is another
// matter; see Authorize in package cache.
//
// What an authenticator can do besides is an optional ability, an interface of its own
// that [As] finds: [Invalidator] or [Renewer], [Observer], [Checker].
//
// Secrets travel as [Sensitive], which does not print. The package imports no
// cloud SDK: whoever needs none links none.
package auth

import (
	"context"
	"errors"
	"time"
)

// ErrHost reports that an authenticator was asked for a host that it is not
// for. Nothing was sent anywhere.
var ErrHost = errors.New("auth: the credential is not for this host")

// Request says for whom a credential is wanted. It is a plain value and holds
// no secret.
type Request struct {
	// Rule is the name of the rule on whose behalf the upstream is asked.
	Rule string
	// Host is the canonical upstream host, with a port if it is not 443.
	Host string
	// Repository is the upstream repository.
	Repository string
}

// Authenticator gives the credential of one rule. Implementations must be safe
// for concurrent use and must themselves refuse a Host that they are not for,
// with an error that wraps [ErrHost]: the host may come from a rule that
// somebody else wrote.
type Authenticator interface {
	// Credential returns what to show to r.Host. It may do I/O and must respect
	// ctx. A [*DeniedError] says that there is no credential until somebody
	// changes something, an [*UnavailableError] that there is none for now; their
	// Reason may be told to clients. Any other error's text stays in the log.
	Credential(ctx context.Context, r Request) (Credential, error)
}

// Invalidator is an optional ability of an [Authenticator]: it is told that the
// upstream refused c, so that a cached secret or token can be had again; the
// upstream is then asked once more. It must not block on I/O.
type Invalidator interface {
	Invalidate(r Request, c Credential)
}

// Renewer is an optional ability of an [Authenticator] that is told more than an
// [Invalidator], and instead of it: unauthenticated says that it was the credential
// itself that was refused, by the token server or by a registry that takes it as it
// is, and not something that it may not do. It must not block on I/O.
type Renewer interface {
	Renew(r Request, c Credential, unauthenticated bool)
}

// Observer is an optional ability of an [Authenticator]: it is told how the
// upstream took a credential in the end. It must not block on I/O.
type Observer interface {
	// Accepted is called when c was accepted for the first time, and for the
	// first time after a refusal.
	Accepted(r Request, c Credential)
	// Refused is called when c was refused, after what [Invalidator] may have
	// changed. It may say more about the refusal than the upstream did, best as
	// a [*DeniedError]; nil: nothing.
	Refused(r Request, c Credential, f Refusal) error
}

// Refusal is what an upstream said when it refused a credential.
type Refusal struct {
	// Status is the HTTP status: 400, 401 or 403.
	Status int
	// Code is the OCI error code; it may be empty.
	Code string
	// Message is the upstream's text, cut off at some length. It is not to be
	// passed on: it may repeat what it was sent.
	Message string
	// Unauthenticated says that the credential itself was refused, by the token
	// server or by a registry that takes it as it is. Otherwise it is what the
	// credential may do that was refused.
	Unauthenticated bool
}

// Checker is an optional ability of an [Authenticator]: early diagnosis when a
// rule is made. It is never the guard; Credential is.
type Checker interface {
	// Check reports why the authenticator cannot be used for host, or nil.
	Check(host string) error
}

// Credential is what an upstream is shown. The zero value is anonymous.
// A Credential with a RefreshToken is used at the token server, one with an
// AccessToken is sent as a bearer token as it is, one with a Username is used
// for Basic authentication and at the token server.
type Credential struct {
	Username     string
	Password     Sensitive
	RefreshToken Sensitive
	AccessToken  Sensitive
	// Expires is when the credential stops to be valid; zero: unknown.
	Expires time.Time
	// Version changes whenever the secret does. It is not a secret. Tokens that
	// were earned with one version are not used with another.
	Version string
}

// Anonymous reports whether the credential proves nothing.
func (c Credential) Anonymous() bool {
	return c.Username == "" && c.Password.Empty() && c.RefreshToken.Empty() && c.AccessToken.Empty()
}

// Anonymous is the [Authenticator] that shows nothing to anybody. A nil
// Authenticator on a rule means the same.
type Anonymous struct{}

// Credential returns the zero Credential.
func (Anonymous) Credential(context.Context, Request) (Credential, error) { return Credential{}, nil }
