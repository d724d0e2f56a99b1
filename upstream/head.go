package upstream

import (
	"context"
	"errors"
	"net/http"
)

// Settles reports whether what a HEAD came to ([Repository.Resolve],
// [Repository.StatBlob]) is also what a GET would come to. A HEAD is a saving,
// never a verdict: upstreams refuse it and serve GET (401 or 403 whatever the
// token, a link that is signed for GET alone, 405, 501, 400), so before something
// counts as denied or missing it must have been asked for in the way that its
// content is fetched.
//
// It is true for success; for what a GET would meet as well: no answer at all, a
// limit, an upstream in trouble, a token server or an authenticator that refused;
// and false for everything that the registry, or the target of its redirect, said
// to the HEAD alone. nil settles; an error that is neither [ErrIncomplete] nor an
// [*Error] does too.
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
	case Unreachable: // what a server says about itself, and not about HEAD
		return e.Status != http.StatusNotImplemented
	}
	return false
}

type homeKey struct{}

// WithoutRedirects returns a context in which [Repository.StatBlob] follows no
// redirect: it returns [ErrIncomplete] instead. What the rule's own host says about a
// blob is its word; what a host says to which it leads may be about anything.
func WithoutRedirects(ctx context.Context) context.Context {
	return context.WithValue(ctx, homeKey{}, true)
}

func staysHome(ctx context.Context) bool { return ctx.Value(homeKey{}) != nil }
