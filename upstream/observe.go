package upstream

import (
	"errors"
	"net/http"

	"github.com/pullthrough/pullthrough/auth"
)

// observe tells an authenticator that wants to know how its credential was
// taken. What it says about a refusal becomes the cause of the error.
func (r *repository) observe(c call, s *session, resp *http.Response, err error) (*http.Response, error) {
	o, ok := as[auth.Observer](r.auth)
	if !ok || s.credential.Anonymous() {
		return resp, err
	}
	if err == nil && resp.StatusCode < http.StatusBadRequest {
		if !s.accepted.Swap(true) {
			o.Accepted(r.request(), s.credential)
		}
		return resp, nil
	}
	f, refused := r.refusalOf(s, resp, err)
	if !refused {
		return resp, err
	}
	if resp != nil {
		_ = resp.Body.Close()
	}
	s.accepted.Store(false)
	if said := o.Refused(r.request(), s.credential, f); said != nil {
		return nil, &Error{Source: r.source, Op: c.op, Class: Denied, Status: f.Status, Code: f.Code, Err: said}
	}
	if err != nil {
		return nil, err
	}
	return nil, &Error{Source: r.source, Op: c.op, Class: Denied, Status: f.Status, Code: f.Code}
}

// refusalOf tells what was refused, if it was the rule's host or its token
// server who did. What a redirect's target says is not about the credential.
func (r *repository) refusalOf(s *session, resp *http.Response, err error) (auth.Refusal, bool) {
	var token *tokenError
	switch {
	case errors.As(err, &token) && token.elsewhere:
		return auth.Refusal{}, false
	case errors.As(err, &token):
		f := auth.Refusal{Status: token.status, Code: token.said.code, Message: token.said.message.Reveal(), Unauthenticated: token.status != http.StatusForbidden}
		return f, token.status == http.StatusBadRequest || token.status == http.StatusUnauthorized || token.status == http.StatusForbidden
	case err != nil, originOf(resp.Request.URL) != r.origin:
		return auth.Refusal{}, false
	case resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden:
		return auth.Refusal{}, false
	}
	said := saidIn(resp)
	f := auth.Refusal{Status: resp.StatusCode, Code: said.code, Message: said.message.Reveal()}
	f.Unauthenticated = f.Status == http.StatusUnauthorized && !s.tokens.earned()
	return f, true
}
