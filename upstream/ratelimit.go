package upstream

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RateLimit is what a host says in its responses of the requests that it allows, as
// Docker Hub does of pulls: in the headers ratelimit-limit, ratelimit-remaining and
// docker-ratelimit-source.
type RateLimit struct {
	// Host is the host that says it. If empty, it is that of the rule.
	Host string
	// Limit is how many requests are allowed in Window. It is 0 if the host does not say.
	Limit int
	// Remaining is how many of them are left.
	Remaining int
	// Window is the time after which a request does not count any more, a day at most. It
	// is 0 if the host does not say.
	Window time.Duration
	// Source is whose requests the host counts, in its own word: an address, or the ID of
	// an account. It is empty if the host does not say.
	Source string
	// Account is equal for all calls of one Client to a host with the same credential, and
	// empty for those without one. It is of no use elsewhere and tells nothing of the
	// credential.
	Account string
}

const (
	maxRateWindow = 24 * time.Hour
	maxRateSource = 64 // bytes
)

// rateLimit reads what the header of a response says. It returns nil if that is nothing.
func rateLimit(h http.Header) *RateLimit {
	values := h["Ratelimit-Remaining"]
	if len(values) == 0 {
		return nil
	}
	left, window, ok := quota(values[0])
	if !ok {
		return nil
	}
	l := &RateLimit{Remaining: left, Window: window}
	limit, other, _ := quota(h.Get("Ratelimit-Limit"))
	l.Limit = limit
	if l.Window == 0 {
		l.Window = other
	}
	if s := h.Get("Docker-Ratelimit-Source"); len(s) <= maxRateSource && !strings.ContainsFunc(s, notPlain) {
		l.Source = s
	}
	return l
}

// notPlain reports whether a character is none of those that addresses and IDs consist of.
func notPlain(c rune) bool {
	return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-._:/", c)
}

// quota reads a number of requests with its window in seconds, such as 100;w=21600. Of a
// list it reads the first element.
func quota(text string) (n int, window time.Duration, ok bool) {
	text, _, _ = strings.Cut(text, ",")
	number, parameters, _ := strings.Cut(text, ";")
	n, ok = count(number)
	if !ok {
		return 0, 0, false
	}
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if seconds, ok := count(value); ok && strings.EqualFold(name, "w") {
			window = min(time.Duration(seconds)*time.Second, maxRateWindow)
		}
	}
	return n, window, true
}

// count reads a number that is not negative. One that is too large is as large as can be.
func count(text string) (n int, ok bool) {
	const most = 1<<31 - 1
	text = strings.TrimSpace(text)
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	u, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return most, true
	}
	return int(u), true
}

type rateLimitKey struct{}

// WithRateLimits returns a context whose calls report to told what the host of the rule
// says of its limits, for each response that says something. told may be called after
// the call has returned, and must be safe for concurrent use.
func WithRateLimits(ctx context.Context, told func(RateLimit)) context.Context {
	return context.WithValue(ctx, rateLimitKey{}, told)
}

// ReportRateLimit reports what a host said to the function of [WithRateLimits], if ctx has
// one. It is for a [Repository] that is not a [Client]'s.
func ReportRateLimit(ctx context.Context, l RateLimit) {
	if told, ok := ctx.Value(rateLimitKey{}).(func(RateLimit)); ok {
		told(l)
	}
}

// noteRateLimit reports what a response of the rule's own host says of its limits. What
// the target of a redirect says is about somebody else. A source that repeats a secret
// is left out.
func noteRateLimit(ctx context.Context, h http.Header, host, account string, repeats func(string) bool) {
	l := rateLimit(h)
	if l == nil {
		return
	}
	l.Host, l.Account = host, account
	if l.Source != "" && repeats(l.Source) {
		l.Source = ""
	}
	operationOf(ctx).limited(l)
	ReportRateLimit(ctx, *l)
}
