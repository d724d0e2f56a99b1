package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/pullthrough/pullthrough/auth"
)

// failures makes the [*Error] values of one source.
type failures struct {
	source Source
	policy *hostPolicy
}

// refused returns the error of a response whose status is a refusal.
func (f *failures) refused(op string, resp *http.Response) *Error {
	return &Error{
		Source:     f.source,
		Op:         op,
		Class:      classOf(resp.StatusCode),
		Owner:      f.ownerOf(resp),
		Status:     resp.StatusCode,
		Code:       readOCIError(resp).code,
		RetryAfter: retryAfter(resp.Header, time.Now()),
		Timeout:    resp.StatusCode == http.StatusRequestTimeout || resp.StatusCode == http.StatusGatewayTimeout,
	}
}

// classOf returns the class of a status. A 416 is [Protocol], since it is about the
// range that was asked for and not about access; so is every status that should not
// come at all.
func classOf(status int) Class {
	switch {
	case status == http.StatusTooManyRequests:
		return Limited
	case status == http.StatusNotFound:
		return NotFound
	case status == http.StatusRequestTimeout, status >= 500:
		return Unreachable
	case status == http.StatusRequestedRangeNotSatisfiable:
		return Protocol
	case status >= 400:
		return Denied
	}
	return Protocol
}

// unusable returns the error of a response that cannot be used because of err.
func (f *failures) unusable(op string, resp *http.Response, err error) error {
	return &Error{
		Source: f.source, Op: op, Class: Protocol, Owner: f.ownerOf(resp),
		Status: resp.StatusCode, Err: err, Reason: reasonOf(err),
	}
}

// ownerOf returns the owner of what a response says.
func (f *failures) ownerOf(resp *http.Response) Owner {
	if resp.Request != nil && !f.policy.isHome(resp.Request.URL) {
		return Elsewhere
	}
	return Home
}

// bodyError reports a body that broke off.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "the body broke off: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// failed returns the error of a call that got no complete response. ctx is that of the
// call, which tells whether it was the caller or the Client that ended it.
func (f *failures) failed(ctx context.Context, op string, err error) *Error {
	e := &Error{Source: f.source, Op: op, Class: Unreachable}
	var (
		done   *Error
		guard  *guardError
		token  *tokenError
		cred   *credentialError
		broken *bodyError
		asURL  *url.Error
		asNet  net.Error
	)
	switch {
	case errors.As(err, &done):
		return done
	case errors.Is(err, errRewritten):
		e.Class, e.Owner, e.Err = Protocol, Ours, errRewritten
	case errors.As(err, &guard):
		e.Class, e.Err, e.Reason = Protocol, guard, guard.client
	case byAuthenticator(e, err):
	case errors.As(err, &token):
		byTokenServer(e, token)
	case errors.Is(context.Cause(ctx), errTooSlow):
		e.Timeout, e.Err, e.Owner = true, &cause{text: errTooSlow.Error(), err: context.DeadlineExceeded}, f.ownerBelowHTTP(err)
	case ctx.Err() != nil && context.Cause(ctx) != error(answerTimeoutError{}):
		e.Timeout, e.Owner = errors.Is(ctx.Err(), context.DeadlineExceeded), Caller
		e.Err = &cause{text: wordingOf(ctx.Err()).log, err: ctx.Err()}
	case errors.As(err, &cred):
		e.Class, e.Owner, e.Reason = Denied, Authenticator, "no credential can be had for it"
		if errors.As(err, &asNet) {
			e.Class, e.Timeout = Unreachable, asNet.Timeout()
		}
		e.Err = cred
	case errors.As(err, &asURL), errors.As(err, &broken):
		e.Timeout = errors.As(err, &asNet) && asNet.Timeout()
		e.Owner, e.Connect = f.ownerBelowHTTP(err), isConnectError(err)
		e.Reason, e.Err = f.describe(err)
	default:
		// Every other error comes from oras-go, which could not read the response of
		// the token server.
		const text = "the token server's answer cannot be used"
		e.Class, e.Owner, e.Err, e.Reason = Protocol, Issuer, &cause{text: text, err: err}, text
	}
	return e
}

// byAuthenticator completes e if err is one that an authenticator returned on purpose,
// and reports whether it is.
func byAuthenticator(e *Error, err error) bool {
	var (
		denied *auth.DeniedError
		later  *auth.UnavailableError
	)
	switch {
	case errors.As(err, &denied), errors.Is(err, auth.ErrHost):
		e.Class, e.Owner, e.Err = Denied, Authenticator, err
	case errors.As(err, &later):
		e.Owner, e.RetryAfter, e.Err = Authenticator, later.RetryAfter, err
	default:
		return false
	}
	return true
}

// byTokenServer completes e with what a token server said.
func byTokenServer(e *Error, token *tokenError) {
	e.Owner = Issuer
	if token.elsewhere {
		e.Owner = Elsewhere
	}
	e.Class = classOf(token.status)
	if e.Class == NotFound { // it is no repository that was not found
		e.Class = Denied
	}
	e.Status, e.Code, e.RetryAfter, e.Err = token.status, token.body.code, token.retryAfter, token
	e.Reason = fmt.Sprintf("its token server answered with status %d", token.status)
}

// ownerBelowHTTP returns the owner of a failure below HTTP. An error that is none of
// net/http's is about the rule's host.
func (f *failures) ownerBelowHTTP(err error) Owner {
	if _, ok := errors.AsType[*credentialError](err); ok {
		return Authenticator
	}
	if _, ok := errors.AsType[*url.Error](err); !ok {
		return Home
	}
	u := askedURL(err)
	switch {
	case u == nil:
		return Ours
	case f.policy.isHome(u):
		return Home
	case f.policy.mayIssueTokens(hostOf(u)):
		return Issuer
	}
	return Elsewhere
}

// describe says what went wrong below HTTP, and at which host if that is not the rule's
// own. Clients see the name of a host only if the embedder named it or it is a known
// token server.
func (f *failures) describe(err error) (client string, safe error) {
	w := wordingOf(err)
	text, client := w.log, w.client
	if u := askedURL(err); u != nil && !f.policy.isHome(u) {
		host, name := hostOf(u), "a host that it leads to"
		if f.policy.mayIssueTokens(host) {
			name = "its token server " + host
		}
		text, client = "the host "+shorten(host)+": "+text, name+": "+client
	}
	return client, &cause{text, withoutURL(err)}
}
