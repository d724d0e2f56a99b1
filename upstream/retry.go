package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/pullthrough/pullthrough/auth"
)

// withCredential requests u with the credential of the rule. If that is refused, it
// tells the authenticator and requests u once more, and only once, with the credential
// that the authenticator then returns. anonymous reports that the rule has no
// credential.
func (r *requester) withCredential(ctx context.Context, c call, u *url.URL) (resp *http.Response, anonymous bool, err error) {
	cred, err := r.credential(ctx)
	if err != nil {
		return nil, false, err
	}
	s := r.sessions.get(r.source, cred, nil)
	resp, err = r.follow(ctx, c, u, s)
	if cred.Anonymous() {
		return resp, true, err
	}
	if r.credentialRefused(resp, err) {
		next, failed := r.nextSession(ctx, s, err != nil || !s.tokens.earned())
		if failed != nil {
			discard(resp)
			return nil, false, failed
		}
		if next != s {
			discard(resp)
			operationOf(ctx).retried()
			s = next
			resp, err = r.follow(ctx, c, u, s)
		}
	}
	resp, err = r.observe(c, s, resp, err)
	return resp, false, err
}

// nextSession tells the authenticator that the credential of s was refused, and
// returns a new session with the credential that it returns after that. It returns s
// itself if there is no reason to try again: the authenticator cannot be told, and its
// credential is still the same. unauthenticated is as for [auth.Renewer].
func (r *requester) nextSession(ctx context.Context, s *session, unauthenticated bool) (*session, error) {
	told := true
	if renewer, ok := auth.As[auth.Renewer](r.auth); ok {
		renewer.Renew(r.authRequest(), s.credential, unauthenticated)
	} else if invalidator, ok := auth.As[auth.Invalidator](r.auth); ok {
		invalidator.Invalidate(r.authRequest(), s.credential)
	} else {
		told = false
	}
	cred, err := r.credential(ctx)
	if err != nil {
		return nil, err
	}
	if !told && sameCredential(cred, s.credential) {
		return s, nil
	}
	return r.sessions.get(r.source, cred, s), nil
}

// credentialRefused reports whether the rule's host or its token server refused the
// credential. What the target of a redirect says, or the token server there, is not
// about the credential.
func (r *requester) credentialRefused(resp *http.Response, err error) bool {
	if token, ok := errors.AsType[*tokenError](err); ok {
		return !token.elsewhere && (token.status == http.StatusUnauthorized || token.status == http.StatusBadRequest)
	}
	return err == nil && resp.StatusCode == http.StatusUnauthorized && r.policy.isHome(resp.Request.URL)
}
