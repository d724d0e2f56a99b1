package cache

import (
	"errors"
	"net/http"

	"github.com/pullthrough/pullthrough/internal/route"
)

// AccessOf says what an HTTP request of the distribution API wants to do, for
// registries beside a [Cache] that share its Authorize. The Repository is the name
// as it was asked for: nothing is canonical without a rule. The error is an
// [*Error] with the status to answer with; it is about paths that are none of the
// API, and about names, tags and digests that cannot be. The Access says then what
// is known nevertheless.
func AccessOf(r *http.Request) (Access, error) {
	parsed, err := route.Parse(r.URL)
	a := accessOf(r, parsed)
	if err != nil {
		return a, routeError(err)
	}
	return a, nil
}

func accessOf(r *http.Request, parsed route.Request) Access {
	k := routeKind(parsed.Kind)
	return Access{Kind: k, Repository: parsed.Repository, Requested: parsed.Repository, Actions: actions(k, r.Method)}
}

// Guard asks authorize before next answers, as a [Cache] does before it answers:
// it is for a Next that is to be guarded like what is covered by rules. Paths that
// are none of the distribution API go on without a question; what cannot be a
// repository, a tag or a digest is refused. Errors are answered as
// [Cache].Authorize says. It is safe for concurrent use if next
// and authorize are.
func Guard(authorize func(*http.Request, Access) error, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parsed, err := route.Parse(r.URL)
		var refused *Error
		switch {
		case errors.Is(err, route.ErrPath):
		case err != nil:
			refused = routeError(err)
		default:
			refused = denial(w, authorize(r, accessOf(r, parsed)))
		}
		if refused != nil {
			refused.write(w, r.Method == http.MethodHead)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// denial is the answer to an error of Authorize, or nil if Authorize allows. It sets the
// header that goes with it.
func denial(w http.ResponseWriter, err error) *Error {
	if err == nil {
		return nil
	}
	c, asks := errors.AsType[*Challenge](err)
	if asks {
		w.Header().Set("WWW-Authenticate", c.Header)
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Status >= 400 && e.Status < 600 && e.Code != "" {
		return e
	}
	if asks {
		return &Error{Status: http.StatusUnauthorized, Code: CodeUnauthorized, Message: "authentication required", Err: err}
	}
	return &Error{Status: http.StatusForbidden, Code: CodeDenied, Message: "requested access to the resource is denied", Err: err}
}

func routeKind(k route.Kind) AccessKind {
	switch k {
	case route.Ping:
		return AccessPing
	case route.Catalog:
		return AccessCatalog
	case route.Blob, route.Upload:
		return AccessBlob
	case route.Tags:
		return AccessTags
	case route.Referrers:
		return AccessReferrers
	}
	return AccessManifest
}

// actions are those of the distribution spec's token scopes.
func actions(k AccessKind, method string) []string {
	switch {
	case k == AccessPing:
		return nil
	case k == AccessCatalog:
		return []string{ActionAll}
	case method == http.MethodDelete:
		return []string{ActionDelete}
	case method == http.MethodPut, method == http.MethodPost, method == http.MethodPatch:
		return []string{ActionPull, ActionPush}
	}
	return []string{ActionPull}
}

// routeError is the part of the error table for paths that cannot be parsed.
func routeError(err error) *Error {
	e := &Error{Status: http.StatusNotFound, Code: CodeUnsupported, Message: "this path is not one of the distribution API"}
	switch {
	case errors.Is(err, route.ErrName):
		e.Status, e.Code = http.StatusBadRequest, CodeNameInvalid
		e.Message = "the repository name is not valid: it is made of lower-case letters, digits, single separators and slashes, and of 255 characters at most"
	case errors.Is(err, route.ErrDigest):
		e.Status, e.Code, e.Message = http.StatusBadRequest, CodeDigestInvalid, "the digest is not valid: it is sha256 or sha512, a colon, and lower-case hexadecimal digits"
	case errors.Is(err, route.ErrTag):
		e.Code, e.Message = CodeManifestUnknown, "there can be no such tag: a tag has 128 characters at most, of letters, digits, '.', '_' and '-'"
	}
	return e
}
