package upstream

import (
	"context"

	"github.com/pullthrough/pullthrough/auth"
)

// credentialError reports an authenticator that returned an error in place of a
// credential. The text of that error stays in the log.
type credentialError struct{ err error }

func (e *credentialError) Error() string { return "no credential: " + e.err.Error() }
func (e *credentialError) Unwrap() error { return e.err }

// authRequest tells the authenticator what the credential is for.
func (r *requester) authRequest() auth.Request {
	return auth.Request{Rule: r.source.Rule, Host: r.source.Host, Repository: r.source.Repository}
}

// credential asks the authenticator for the credential of the rule. Its error is a
// [*credentialError].
func (r *requester) credential(ctx context.Context) (auth.Credential, error) {
	c, err := r.auth.Credential(ctx, r.authRequest())
	if err != nil {
		return auth.Credential{}, &credentialError{err}
	}
	return c, nil
}

// as finds an optional ability of an authenticator, looking through Unwrap.
func as[T any](a auth.Authenticator) (T, bool) {
	for a != nil {
		if t, ok := a.(T); ok {
			return t, true
		}
		u, ok := a.(interface{ Unwrap() auth.Authenticator })
		if !ok {
			break
		}
		a = u.Unwrap()
	}
	var none T
	return none, false
}
