package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
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
func (r *repository) refusal(op string, resp *http.Response) *Error {
	return &Error{
		Source:     r.source,
		Op:         op,
		Class:      classOf(resp.StatusCode),
		Owner:      r.ownerOf(resp),
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

// unusable says why an answer cannot be used: text for the log, which may quote
// the upstream, says for clients.
type unusable struct{ text, says string }

func (u unusable) Error() string  { return u.text }
func (u unusable) reason() string { return u.says }

// protocol is the error of an answer that cannot be used.
func (r *repository) protocol(op string, resp *http.Response, err error) error {
	e := &Error{Source: r.source, Op: op, Class: Protocol, Err: err, Reason: reasonOf(err)}
	if resp != nil {
		e.Status, e.Owner = resp.StatusCode, r.ownerOf(resp)
	}
	return e
}

// ownerOf says who gave an answer.
func (r *repository) ownerOf(resp *http.Response) Owner {
	if resp.Request != nil && originOf(resp.Request.URL) != r.origin {
		return Elsewhere
	}
	return Home
}

// reasonOf finds what may be said to clients of an error.
func reasonOf(err error) string {
	var r interface{ reason() string }
	if errors.As(err, &r) {
		return r.reason()
	}
	return ""
}

// bodyError is a body that broke off.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "the body broke off: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// fail is the error of a question that got no answer.
func (r *repository) fail(ctx context.Context, op string, err error) *Error {
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
		e.Class, e.Err, e.Reason = Protocol, guard, guard.says
	case errors.As(err, &denied), errors.Is(err, auth.ErrHost):
		e.Class, e.Owner, e.Err = Denied, Authenticator, err
	case errors.As(err, &later):
		e.Owner, e.RetryAfter, e.Err = Authenticator, later.RetryAfter, err
	case errors.As(err, &token):
		if e.Owner = Issuer; token.elsewhere {
			e.Owner = Elsewhere
		}
		e.Class, e.Status, e.Code, e.RetryAfter, e.Err = classOf(token.status), token.status, token.said.code, token.retryAfter, token
		if e.Class == NotFound { // the token server's, not the repository's
			e.Class = Denied
		}
		e.Reason = fmt.Sprintf("its token server answered with status %d", token.status)
	case errors.Is(context.Cause(ctx), errTooSlow):
		e.Timeout, e.Err, e.Owner = true, &cause{text: errTooSlow.Error(), err: context.DeadlineExceeded}, r.askedOf(err)
	case ctx.Err() != nil:
		e.Timeout, e.Owner = errors.Is(ctx.Err(), context.DeadlineExceeded), Caller
		e.Err = &cause{text: plain(ctx.Err()).text, err: ctx.Err()}
	case errors.As(err, &cred):
		e.Class, e.Owner, e.Reason = Denied, Authenticator, "no credential can be had for it"
		if errors.As(err, &asNet) {
			e.Class, e.Timeout = Unreachable, asNet.Timeout()
		}
		e.Err = cred
	case errors.As(err, &asURL), errors.As(err, &broken):
		e.Timeout = errors.As(err, &asNet) && asNet.Timeout()
		e.Owner, e.Connect = r.askedOf(err), connects(err)
		e.Reason, e.Err = r.below(err)
	default:
		// What is left comes from reading the token server's answer.
		const text = "the token server's answer cannot be used"
		e.Class, e.Owner, e.Err, e.Reason = Protocol, Issuer, &cause{text: text, err: err}, text
	}
	return e
}

// askedOf says who was asked for what failed below HTTP. An error that names nobody
// is about the rule's host.
func (r *repository) askedOf(err error) Owner {
	if _, ok := errors.AsType[*credentialError](err); ok {
		return Authenticator
	}
	u, ok := errors.AsType[*url.Error](err)
	if !ok {
		return Home
	}
	at, _ := url.Parse(u.URL)
	switch {
	case at == nil || at.Host == "":
		return Ours
	case originOf(at) == r.origin:
		return Home
	case r.trusts(hostOf(at)):
		return Issuer
	}
	return Elsewhere
}

// trusts reports whether a host is known or listed as a token server.
func (r *repository) trusts(host string) bool {
	return (&trip{host: r.source.Host, realms: r.engine.hosts[r.source.Host].Realms}).trusted(host)
}

// connects reports whether an error says that there was no connection.
func connects(err error) bool {
	op, _ := errors.AsType[*net.OpError](err)
	_, dns := errors.AsType[*net.DNSError](err)
	_, cert := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	return dns || cert || record || alert || op != nil && (op.Op == "dial" || op.Op == "proxyconnect") || errors.Is(err, http.ErrSchemeMismatch)
}

// below is what went wrong below HTTP, and at which host if that is not the
// rule's own. Clients are told the name of a host only if somebody on this side
// named it.
func (r *repository) below(err error) (says string, safe error) {
	what := plain(err)
	text := what.text
	says = what.says
	if u, ok := errors.AsType[*url.Error](err); ok {
		at, _ := url.Parse(u.URL)
		if at == nil || at.Host == "" || originOf(at) == r.origin {
			return says, &cause{text, withoutURL(err)}
		}
		host, name := hostOf(at), "a host that it leads to"
		if r.trusts(host) {
			name = "its token server " + host
		}
		text, says = "the host "+shorten(host)+": "+text, name+": "+says
	}
	return says, &cause{text, withoutURL(err)}
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

// wording is one failure in two languages: for the log, and for clients. foreign is
// the whole of a text in it that an upstream has a hand in; text shows its beginning.
type wording struct{ text, says, foreign string }

// plain says what went wrong below HTTP, without URLs, bodies and our own
// addresses: only texts that are known to hold none are passed on, and to clients
// none that quotes a certificate.
func plain(err error) wording {
	same := func(text string) wording { return wording{text: text, says: text} }
	refused := func(err error, says string) wording { // err quotes names of the certificate
		return wording{"TLS: " + shorten(err.Error()), says, err.Error()}
	}
	var (
		dns     *net.DNSError
		errno   syscall.Errno
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		asNet   net.Error
	)
	switch {
	case errors.Is(err, context.Canceled):
		return same("canceled")
	case errors.As(err, &dns):
		if dns.IsTimeout {
			return same("DNS: timed out")
		}
		if dns.IsNotFound {
			return same("DNS: no such host")
		}
		return same("DNS: the name cannot be resolved")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &asNet) && asNet.Timeout():
		return same("timed out")
	case errors.As(err, &unknown):
		return refused(unknown, "its certificate is signed by an authority that is not trusted (ca)")
	case errors.As(err, &name):
		return refused(name, "its certificate is for another host")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return wording{text: "TLS: " + invalid.Error(), says: "its certificate has expired or is not valid yet"}
	case errors.As(err, &cert):
		return refused(cert.Err, "its certificate is not accepted")
	case errors.As(err, &record):
		return wording{text: "TLS: " + record.Msg, says: "it does not speak TLS"}
	case errors.Is(err, http.ErrSchemeMismatch):
		return same("it speaks http, not https (plainHTTP must be set for such a host)")
	case errors.As(err, &alert):
		return wording{text: "TLS: " + alert.Error(), says: "the TLS handshake failed"}
	case errors.As(err, &errno):
		return same(errno.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return same("the connection ended early")
	}
	return same("the connection failed")
}
