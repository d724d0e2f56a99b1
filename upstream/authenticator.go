package upstream

import (
	"context"
	"errors"
	"net/http"

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

// observe tells an [auth.Observer] how its credential was taken. What that says about a
// refusal becomes the cause of the error.
func (r *requester) observe(c call, s *session, resp *http.Response, err error) (*http.Response, error) {
	o, ok := auth.As[auth.Observer](r.auth)
	if !ok || s.credential.Anonymous() {
		return resp, err
	}
	if err == nil && resp.StatusCode < http.StatusBadRequest {
		if !s.accepted.Swap(true) {
			o.Accepted(r.authRequest(), s.credential)
		}
		return resp, nil
	}
	refusal, ok := r.refusalOf(s, resp, err)
	if !ok {
		return resp, err
	}
	discard(resp)
	s.accepted.Store(false)
	denied := &Error{Source: r.source, Op: c.op, Class: Denied, Status: refusal.Status, Code: refusal.Code}
	if explained := o.Refused(r.authRequest(), s.credential, refusal); explained != nil {
		denied.Err = explained
		return nil, denied
	}
	if err != nil {
		return nil, err
	}
	return nil, denied
}

// refusalOf returns the refusal of the credential by the rule's host or its token
// server, and whether there was one. What the target of a redirect says is not about
// the credential.
func (r *requester) refusalOf(s *session, resp *http.Response, err error) (auth.Refusal, bool) {
	token, ok := errors.AsType[*tokenError](err)
	switch {
	case ok && token.elsewhere:
		return auth.Refusal{}, false
	case ok:
		refusal := auth.Refusal{Status: token.status, Code: token.body.code, Message: token.body.message.Reveal(), Unauthenticated: token.status != http.StatusForbidden}
		return refusal, token.status == http.StatusBadRequest || token.status == http.StatusUnauthorized || token.status == http.StatusForbidden
	case err != nil, !r.policy.isHome(resp.Request.URL):
		return auth.Refusal{}, false
	case resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden:
		return auth.Refusal{}, false
	}
	body := readOCIError(resp)
	return auth.Refusal{
		Status:          resp.StatusCode,
		Code:            body.code,
		Message:         body.message.Reveal(),
		Unauthenticated: resp.StatusCode == http.StatusUnauthorized && !s.tokens.earned(),
	}, true
}
