package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/pullthrough/pullthrough/auth"
)

// refusal is the error of an answer that is none.
func (r *repository) refusal(op string, resp *http.Response) error {
	return &Error{
		Source:     r.source,
		Op:         op,
		Class:      classOf(resp.StatusCode),
		Status:     resp.StatusCode,
		Code:       saidIn(resp).code,
		RetryAfter: retryAfter(resp.Header, time.Now()),
		Timeout:    resp.StatusCode == http.StatusRequestTimeout || resp.StatusCode == http.StatusGatewayTimeout,
	}
}

// classOf sorts statuses. 416 is [Protocol], since it answers what we asked
// and not who we are; so is every status that should not come at all.
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

// protocol is the error of an answer that cannot be used.
func (r *repository) protocol(op string, resp *http.Response, err error) error {
	e := &Error{Source: r.source, Op: op, Class: Protocol, Err: err}
	if resp != nil {
		e.Status = resp.StatusCode
	}
	return e
}

// bodyError is a body that broke off.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "the body broke off: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// fail is the error of a question that got no answer.
func (r *repository) fail(ctx context.Context, op string, err error) error {
	e := &Error{Source: r.source, Op: op, Class: Unreachable}
	var (
		token  *tokenError
		guard  *guardError
		cred   *credentialError
		denied *auth.DeniedError
		later  *auth.UnavailableError
		ours   *Error
		broken *bodyError
		asURL  *url.Error
		asNet  net.Error
	)
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &guard):
		e.Class, e.Err = Protocol, guard
	case errors.As(err, &denied), errors.Is(err, auth.ErrHost):
		e.Class, e.Err = Denied, err
	case errors.As(err, &later):
		e.RetryAfter, e.Err = later.RetryAfter, err
	case errors.As(err, &token):
		e.Class, e.Status, e.Code, e.RetryAfter, e.Err = classOf(token.status), token.status, token.said.code, token.retryAfter, token
		if e.Class == NotFound { // the token server's, not the repository's
			e.Class = Denied
		}
	case errors.Is(context.Cause(ctx), errTooSlow):
		e.Timeout, e.Err = true, &cause{errTooSlow.Error(), context.DeadlineExceeded}
	case ctx.Err() != nil:
		e.Timeout = errors.Is(ctx.Err(), context.DeadlineExceeded)
		e.Err = &cause{plain(ctx.Err()), ctx.Err()}
	case errors.As(err, &cred):
		if e.Class = Denied; errors.As(err, &asNet) {
			e.Class, e.Timeout = Unreachable, asNet.Timeout()
		}
		e.Err = cred
	case errors.As(err, &asURL), errors.As(err, &broken):
		e.Timeout = errors.As(err, &asNet) && asNet.Timeout()
		e.Err = &cause{plain(err), withoutURL(err)}
	default:
		// What is left comes from reading the token server's answer.
		e.Class, e.Err = Protocol, &cause{"the token server's answer cannot be used", err}
	}
	return e
}

// withoutURL takes the address out of an error of net/http, which may be that of
// a redirect and hold a signature: who unwraps an error and prints what is below
// must not see it either.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// cause is an error whose text is safe to show, over one whose text may hold a
// URL with a signature, a part of a body or an address of ours.
type cause struct {
	text string
	err  error
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.err }

// plain says what went wrong below HTTP, without URLs, bodies and our own
// addresses: only texts that are known to hold none are passed on.
func plain(err error) string {
	var (
		dns     *net.DNSError
		errno   syscall.Errno
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		asNet   net.Error
	)
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &dns):
		if dns.IsTimeout {
			return "DNS: timed out"
		}
		if dns.IsNotFound {
			return "DNS: no such host"
		}
		return "DNS: the name cannot be resolved"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &asNet) && asNet.Timeout():
		return "timed out"
	case errors.As(err, &cert):
		return "TLS: " + cert.Err.Error()
	case errors.As(err, &unknown):
		return "TLS: " + unknown.Error()
	case errors.As(err, &name):
		return "TLS: " + name.Error()
	case errors.As(err, &record):
		return "TLS: " + record.Msg
	case errors.Is(err, http.ErrSchemeMismatch):
		return "it speaks http, not https (see PlainHTTP of package upstream's Host)"
	case errors.As(err, &alert):
		return "TLS: " + alert.Error()
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection ended early"
	}
	return "the connection failed"
}
