// Package auth is about OUTBOUND proof: what one rule shows to its upstream.
//
// An [Authenticator] is attached to a rule and gives a [Credential] for one
// host. It is never lent to another rule: tokens that are earned with a
// credential are kept per rule and per [Credential.Version], so a new version
// means new tokens. What clients of the cache show to the cache is another
// matter; see Authorize in package cache.
//
// Secrets travel as [Sensitive], which does not print. The package imports no
// cloud SDK: whoever needs none links none.
package auth

import (
	"context"
	"errors"
	"fmt"
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
	// ctx. A [*DeniedError] says that there is no credential, on purpose, and
	// why; its Reason may be told to clients. Any other error's text stays in
	// the log.
	Credential(ctx context.Context, r Request) (Credential, error)
}

// Invalidator is an optional ability of an [Authenticator]: it is told that the
// upstream refused c, so that a cached secret or token can be read again.
// It must not block on I/O.
type Invalidator interface {
	Invalidate(r Request, c Credential)
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

// DeniedError says that an authenticator has no credential to give, and that
// this is final until somebody changes the set-up: an identity that is not
// assigned, a form that is not supported. It reaches clients as 403 DENIED.
type DeniedError struct {
	// Reason is a sentence that may be shown to clients. It holds no secret.
	Reason string
	// Err is the cause, for the log; nil: none.
	Err error
}

// Error returns the reason, and the cause if there is one.
func (e *DeniedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("auth: %s: %v", e.Reason, e.Err)
	}
	return "auth: " + e.Reason
}

// Unwrap returns the cause.
func (e *DeniedError) Unwrap() error { return e.Err }
