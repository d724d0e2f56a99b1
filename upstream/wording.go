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
	"strings"
	"syscall"
)

// wording is the text of one failure below HTTP: for the log, and for clients. foreign is
// the whole of a text in which an upstream had a part, and of which log shows the
// beginning. It is empty if there is none.
type wording struct{ log, client, foreign string }

// wordingOf returns the wording of a failure below HTTP. It holds no URL, no part of a
// body and no address on this side, since only texts that are known to hold none are
// passed on; clients see none that quotes a certificate.
func wordingOf(err error) wording {
	same := func(text string) wording { return wording{log: text, client: text} }
	certificate := func(err error, client string) wording { // err quotes names in the certificate
		return wording{"TLS: " + shorten(err.Error()), client, err.Error()}
	}
	var (
		dns     *net.DNSError
		errno   syscall.Errno
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		op      *net.OpError
		own     *certificateError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		asNet   net.Error
	)
	switch {
	case errors.As(err, &own):
		return wording{log: "TLS: " + shorten(own.Error()), client: "the client certificate for it cannot be had"}
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
		return certificate(unknown, "its certificate is signed by an authority that is not trusted (ca)")
	case errors.As(err, &name):
		return certificate(name, "its certificate is for another host")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return wording{log: "TLS: " + invalid.Error(), client: "its certificate has expired or is not valid yet"}
	case errors.As(err, &cert):
		return certificate(cert.Err, "its certificate is not accepted")
	case errors.As(err, &record):
		return wording{log: "TLS: " + record.Msg, client: "it does not speak TLS"}
	case errors.Is(err, http.ErrSchemeMismatch):
		return same("it speaks http, not https (plainHTTP must be set for such a host)")
	case errors.As(err, &alert):
		return wording{log: "TLS: " + alert.Error(), client: "the TLS handshake failed"}
	case errors.As(err, &op) && isAlert(op):
		client := "it ended the TLS connection"
		if text := op.Err.Error(); strings.Contains(text, "certificate") || strings.Contains(text, "handshake failure") {
			client = "it ended the TLS handshake, perhaps because it wants a client certificate, or another one (clientCert)"
		}
		return wording{log: "TLS: it answered " + op.Err.Error(), client: client}
	case errors.As(err, &errno):
		return same(errno.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return same("the connection ended early")
	}
	return same("the connection failed")
}

// isAlert reports whether an error is what the other side said when it ended a TLS
// connection, in one of crypto/tls's texts.
func isAlert(op *net.OpError) bool { return op.Op == "remote error" }

// isConnectError reports whether an error says that no connection could be made.
func isConnectError(err error) bool {
	op, _ := errors.AsType[*net.OpError](err)
	_, own := errors.AsType[*certificateError](err)
	_, dns := errors.AsType[*net.DNSError](err)
	_, cert := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	return own || dns || cert || record || alert || op != nil && (op.Op == "dial" || op.Op == "proxyconnect" || isAlert(op)) || errors.Is(err, http.ErrSchemeMismatch)
}

// askedURL returns the URL that an error of net/http names, or nil if err is no such
// error, or if the URL has no host.
func askedURL(err error) *url.URL {
	if e, ok := errors.AsType[*url.Error](err); ok {
		if u, err := url.Parse(e.URL); err == nil && u.Host != "" {
			return u
		}
	}
	return nil
}

// withoutURL removes the URL from an error of net/http. It may be that of a redirect and
// hold a signature, which must not be printed by code that unwraps the error either.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
