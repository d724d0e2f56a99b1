package cache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/upstream"
)

// retrySoon is the Retry-After for trouble of this cache.
const retrySoon = 5 * time.Second

// failure is the one place that turns what went wrong into the error that a client gets:
// a sentence that names the source, the rule and the cause, and on which a person can
// act. The sentence holds no secret and none of the upstream's own words, and does not
// repeat the code, which clients print themselves. reference is the tag or the digest
// that was asked for; it may be empty.
func failure(r origin.Repo, k AccessKind, reference string, err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	e := &Error{Status: http.StatusInternalServerError, Code: CodeUnknown, Err: err}
	what := fmt.Sprintf("%s of repository '%s'", k, r.Name)
	if r.Match != nil {
		what = fmt.Sprintf("the pull from source '%s' by cache rule '%s'", r.Match.Source, r.Match.Rule.Name)
	}
	var denied *auth.DeniedError
	var later *auth.UnavailableError
	var up *upstream.Error
	switch {
	case errors.Is(err, origin.ErrLoop), errors.Is(err, origin.ErrTooManyHops):
		return &Error{Status: http.StatusLoopDetected, Code: CodeUnknown, Message: err.Error()}
	case errors.Is(err, origin.ErrRules):
		e.Status, e.RetryAfter = http.StatusServiceUnavailable, retrySoon
		e.Message = fmt.Sprintf("the cache rules cannot be read just now, so repository '%s' cannot be found; try again", r.Name)
	case errors.Is(err, origin.ErrOpener):
		e.Message = what + " is not possible: the source cannot be opened as the rule describes it (the log says why)"
	case errors.As(err, &denied):
		e.Status, e.Code, e.Message = http.StatusForbidden, CodeDenied, about(r, denied.Reason)
	case errors.As(err, &later):
		e.Status, e.Message = http.StatusServiceUnavailable, about(r, later.Reason)
		e.RetryAfter = max(later.RetryAfter, retrySoon)
	case errors.Is(err, auth.ErrHost):
		e.Status, e.Code, e.Message = http.StatusForbidden, CodeDenied, what+" is not possible: the rule's credentials are for another host"
	case errors.As(err, &up):
		upstreamFailure(r, e, up, k, reference)
	case errors.Is(err, errUnknown):
		e.Status, e.Code, e.Message = http.StatusNotFound, k.unknown(), fmt.Sprintf("'%s' is not stored, and no cache rule covers it", joined(r.Name, reference))
	case errors.Is(err, origin.ErrGone), errors.Is(err, ledger.ErrForgotten), errors.Is(err, ErrDeleted):
		e.Status, e.Code, e.Message = http.StatusNotFound, k.unknown(), what+" is over: the rule was removed or changed meanwhile"
	case errors.Is(err, errNoRule):
		e.Status, e.Code, e.Message = http.StatusNotFound, CodeNameUnknown, fmt.Sprintf("repository '%s' is not known: no cache rule covers it and nothing is stored", r.Name)
	case errors.Is(err, origin.ErrNoList):
		e.Status, e.Code, e.Message = http.StatusMethodNotAllowed, CodeUnsupported, what+" cannot list: the client that this cache asks its source with does not know how"
	case errors.Is(err, origin.ErrBusy):
		e.Status, e.Message, e.RetryAfter = http.StatusServiceUnavailable, what+" found no free slot in time; try again", retrySoon
	case errors.Is(err, flight.ErrClosed), errors.Is(err, errShutdown):
		e.Status, e.Message, e.RetryAfter = http.StatusServiceUnavailable, what+" is not possible: the cache is shutting down", retrySoon
	case errors.Is(err, context.DeadlineExceeded):
		e.Status, e.Message = http.StatusGatewayTimeout, what+" took too long"
	case errors.Is(err, context.Canceled):
		e.Status, e.Message = 499, what+" was given up" // nobody is there to read it
	default:
		e.Message = what + " has failed inside this cache (the log says why)"
	}
	return e
}

// about makes a sentence of what an authenticator says, with the rule and the source
// that it is about, and the rule not twice.
func about(r origin.Repo, reason string) string {
	switch {
	case r.Match == nil:
		return reason
	case strings.Contains(reason, strconv.Quote(r.Match.Rule.Name)):
		return fmt.Sprintf("source '%s' cannot be pulled from: %s", r.Match.Source, reason)
	}
	return fmt.Sprintf("cache rule '%s' cannot pull from source '%s': %s", r.Match.Rule.Name, r.Match.Source, reason)
}

// joined names a tag or digest in a repository.
func joined(repository, reference string) string {
	switch {
	case reference == "":
		return repository
	case strings.Contains(reference, ":"):
		return repository + "@" + reference
	}
	return repository + ":" + reference
}

// upstreamFailure is the part of the table for what an upstream answered.
func upstreamFailure(r origin.Repo, e *Error, up *upstream.Error, k AccessKind, reference string) {
	source, name, rule := r.Match.Source.String(), joined(r.Match.Source.String(), reference), r.Match.Rule.Name
	who := fmt.Sprintf("source '%s' of cache rule '%s'", source, rule)
	e.RetryAfter = up.RetryAfter
	switch {
	case errors.Is(up, upstream.ErrSchema1):
		e.Status = http.StatusBadGateway
		e.Message = fmt.Sprintf("'%s' is an image of Docker's schema 1, which is not supported: it must be pushed again with a current client (cache rule '%s')", name, rule)
	case spares(up):
		e.Status, e.Code, e.Message = http.StatusTooManyRequests, CodeTooManyRequests, budgetMessage(who, up)
	case up.Status == http.StatusLoopDetected:
		e.Status, e.Message = http.StatusLoopDetected, who+" says that the pull goes in a circle or has passed more caches than allowed: look at the rules of the caches further on, and at their MaxHops"
	case up.Timeout:
		e.Status, e.Message = http.StatusGatewayTimeout, who+" took too long to answer"
	case up.Class == upstream.Limited:
		e.Status, e.Code, e.Message = http.StatusTooManyRequests, CodeTooManyRequests, who+" limits pulls; try again "+when(up.RetryAfter)
	case up.Class == upstream.Denied:
		e.Status, e.Code, e.Message = http.StatusForbidden, CodeDenied, refusalOf(up, source, rule)
	case up.Class == upstream.NotFound:
		e.Status, e.Code, e.Message = http.StatusNotFound, k.unknown(), fmt.Sprintf("'%s' does not exist (cache rule '%s')", name, rule)
		if Code(up.Code) == CodeNameUnknown {
			e.Code = CodeNameUnknown
		}
	case up.Class == upstream.Unreachable && up.Reason != "":
		e.Status, e.Message = http.StatusBadGateway, who+" cannot be reached: "+up.Reason
	case up.Class == upstream.Unreachable && up.Status != 0:
		e.Status, e.Message = http.StatusBadGateway, fmt.Sprintf("%s answered with status %d", who, up.Status)
	case up.Class == upstream.Unreachable:
		e.Status, e.Message = http.StatusBadGateway, who+" cannot be reached"
	default:
		e.Status, e.Message = http.StatusBadGateway, who+" sent something that cannot be used"
		if up.Reason != "" {
			e.Message += ": " + up.Reason
		}
	}
}

// when says when a source that limits pulls may be asked again.
func when(after time.Duration) string {
	if after <= 0 {
		return "later"
	}
	return fmt.Sprintf("in %d s", int((after+time.Second-1)/time.Second))
}

// refusalOf says what is wrong when a source refuses: there are no credentials, they are
// wrong, or they do not cover the source.
func refusalOf(up *upstream.Error, source, rule string) string {
	unknown := up.Status == http.StatusUnauthorized || up.Status == http.StatusBadRequest && up.Reason != "" // the token server's
	switch {
	case up.Status == 0:
		text := fmt.Sprintf("source '%s' cannot be asked by cache rule '%s'", source, rule)
		if up.Reason != "" {
			text += ": " + up.Reason
		}
		return text
	case up.Anonymous && unknown:
		return fmt.Sprintf("source '%s' wants credentials, and cache rule '%s' has none", source, rule)
	case up.Anonymous && up.Status == http.StatusForbidden:
		return fmt.Sprintf("source '%s' refuses this pull with status 403, and cache rule '%s' has no credentials", source, rule)
	case unknown:
		return fmt.Sprintf("source '%s' does not accept the credentials of cache rule '%s'", source, rule)
	case up.Status == http.StatusForbidden:
		return fmt.Sprintf("the credentials of cache rule '%s' do not cover source '%s'", rule, source)
	}
	return fmt.Sprintf("source '%s' of cache rule '%s' refuses the pull with status %d", source, rule, up.Status)
}

// maxWarning is the length of the longest text in a Warning.
const maxWarning = 1 << 10

// warn adds a Warning (distribution spec 1.1), which reaches people where a body
// does not: with a HEAD, and with what is served though the source cannot be
// asked.
func warn(h http.Header, text string) {
	var b strings.Builder
	for _, c := range text[:min(len(text), maxWarning)] {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c > '~':
			b.WriteByte('?')
		default:
			b.WriteRune(c)
		}
	}
	h.Add("Warning", `299 - "`+b.String()+`"`)
}
