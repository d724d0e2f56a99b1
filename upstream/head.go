package upstream

import (
	"context"
	"errors"
	"net/http"
)

// Settles reports whether the error of a HEAD, by [Repository.Resolve] or
// [Repository.StatBlob], is also what a GET would result in. A HEAD saves a GET but
// decides nothing: there are upstreams that serve a GET and refuse the HEAD (with 401
// or 403 whatever the token is, because a link is signed for GET alone, or with 405, 501
// or 400). So content counts as denied or missing only after a GET.
//
// Settles returns true for a nil error and for failures that a GET would meet too: no
// response at all, a limit, an upstream in trouble, a refusal by the token server or by
// the authenticator. It returns false for what the registry, or the target of its
// redirect, said about the HEAD itself, and for [ErrIncomplete]. It returns true for
// errors that are neither [ErrIncomplete] nor an [*Error].
func Settles(err error) bool {
	if errors.Is(err, ErrIncomplete) {
		return false
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status == 0 && e.Class != Protocol {
		return true
	}
	if _, ok := errors.AsType[*tokenError](err); ok {
		return true
	}
	switch e.Class {
	case Limited:
		return true
	case Unreachable: // is about the server and not about HEAD, but for 501
		return e.Status != http.StatusNotImplemented
	}
	return false
}

type homeKey struct{}

// WithoutRedirects returns a context in which [Repository.StatBlob] follows no
// redirect: it returns [ErrIncomplete] instead. A caller that wants to know whether the
// rule's own host has a blob cannot rely on another host to which that leads.
func WithoutRedirects(ctx context.Context) context.Context {
	return context.WithValue(ctx, homeKey{}, true)
}

// staysHome reports whether ctx is one of [WithoutRedirects].
func staysHome(ctx context.Context) bool { return ctx.Value(homeKey{}) != nil }
