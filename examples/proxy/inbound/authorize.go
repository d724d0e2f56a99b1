package inbound

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
)

// ErrNoCredentials reports a request without credentials for something that needs them, as every
// client begins.
var ErrNoCredentials = errors.New("inbound: no credentials")

// errSubject reports credentials of a user, token or certificate that does not exist any more.
var errSubject = errors.New("inbound: who has shown it may not pull any more")

// identity is who asks, and what he may pull.
type identity struct {
	subject string // empty if nothing was shown
	pull    Patterns
	token   *claims // nil unless it was a token of the token service
}

// Authorize decides about one request; it is for the Authorize of a [cache.Cache]. Nothing but
// pulls is allowed.
func (g *Gate) Authorize(r *http.Request, a cache.Access) error {
	p := g.rights.Load()
	if p == nil {
		return nil
	}
	id, err := g.identify(r, p)
	if err != nil {
		return g.refusal(r, a, err)
	}
	if err := g.countUser(id); err != nil {
		return err
	}
	allowed := id.pull.Match(a.Repository)
	switch a.Kind {
	case cache.AccessPing:
		// Clients learn here how to log in, so those without credentials are asked for some
		// even if they may pull something.
		allowed = id.subject != ""
	case cache.AccessCatalog:
		allowed = id.pull.all()
	}
	switch {
	case !allowed && (id.subject == "" || id.subject == anonymous):
		return g.refusal(r, a, ErrNoCredentials)
	case !allowed:
		return denied(id.subject, a)
	case a.Kind != cache.AccessPing && id.token != nil && !covers(id.token.Access, a):
		return g.refusal(r, a, errScope)
	case slices.ContainsFunc(a.Actions, func(action string) bool { return action == cache.ActionPush || action == cache.ActionDelete }):
		return &cache.Error{Status: http.StatusForbidden, Code: cache.CodeDenied, Message: "this is a cache: clients may only pull"}
	}
	return nil
}

// denied is the answer to a client that may not pull something.
func denied(subject string, a cache.Access) *cache.Error {
	kind, name, _ := strings.Cut(subject, ":")
	what := "pull '" + a.Requested + "'"
	if a.Kind == cache.AccessCatalog {
		what = "list the repositories"
	}
	return &cache.Error{Status: http.StatusForbidden, Code: cache.CodeDenied, Message: kind + " '" + name + "' may not " + what}
}

// errScope reports a token that was issued for something else.
var errScope = errors.New("inbound: the token is for other repositories")

// countUser uses one of the requests that a user has.
func (g *Gate) countUser(id identity) *cache.Error {
	if id.subject == "" || id.subject == anonymous {
		return nil // the address counts
	}
	if wait := g.users.take(id.subject); wait > 0 {
		return tooMany("too many requests of "+id.subject, wait)
	}
	return nil
}

// identify finds who has sent a request. Wrong credentials are an error, even where none are
// needed.
func (g *Gate) identify(r *http.Request, p *rights) (id identity, err error) {
	defer func() {
		if err == nil && id.subject != "" {
			g.visitOf(r).user = id.subject
		}
	}()
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return p.shown(r), nil
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	text = strings.Trim(text, " ")
	switch {
	case len(values) > 1:
		return identity{}, errLogin
	case strings.EqualFold(scheme, "Basic"):
		user, password, ok := r.BasicAuth()
		if !ok {
			return identity{}, errLogin
		}
		return g.login(r, p, user, password)
	case strings.EqualFold(scheme, "Bearer"):
		return g.bearer(r, p, text)
	}
	return identity{}, errLogin
}

// shown is who a client is by its certificate, or nobody.
func (p *rights) shown(r *http.Request) identity {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		if subject, pull := p.certificate(r.TLS.VerifiedChains[0][0]); subject != "" {
			return identity{subject: subject, pull: pull}
		}
	}
	return identity{pull: p.policy.Anonymous}
}

// bearer finds who has a token: one of the token service, or a static one.
func (g *Gate) bearer(r *http.Request, p *rights, text string) (identity, error) {
	if subject := p.tokens[g.key.of([]byte(text))]; subject != "" {
		return identity{subject: subject, pull: p.patterns[subject]}, nil
	}
	if strings.Count(text, ".") != 2 { // it is no signed token, which ends by itself, but a guess
		if err := g.logins.fail(g.visitOf(r).address); err != nil {
			return identity{}, err
		}
		return identity{}, errToken
	}
	t := g.tokens.Load()
	if t == nil {
		return identity{}, errToken
	}
	c, err := t.access(text)
	if err != nil {
		return identity{}, err
	}
	pull, ok := p.of(c.Subject)
	if !ok {
		return identity{}, errSubject
	}
	return identity{subject: c.Subject, pull: pull, token: c}, nil
}

// login finds who has a password. That of a user whose name is that of a static token may be the
// token.
func (g *Gate) login(r *http.Request, p *rights, user, password string) (identity, error) {
	if subject := p.tokens[g.key.of([]byte(password))]; subject == kindToken+user {
		return identity{subject: subject, pull: p.patterns[subject]}, nil
	}
	hash, known := p.policy.Passwords.hash(user)
	if err := g.logins.check(r.Context(), g.visitOf(r).address, user, password, hash, known); err != nil {
		if known && errors.Is(err, errLogin) {
			err = &loginError{user}
		}
		return identity{}, err
	}
	subject := kindUser + user
	pull, _ := p.of(subject)
	return identity{subject: subject, pull: pull}, nil
}

// refusal is the answer to a client that has not proved who it is.
func (g *Gate) refusal(r *http.Request, a cache.Access, why error) *cache.Error {
	if l, ok := errors.AsType[*limitError](why); ok {
		return tooMany(l.what, l.wait)
	}
	e := &cache.Error{Status: http.StatusUnauthorized, Code: cache.CodeUnauthorized, Message: "authentication required", Err: &unauthorized{why, g.challenge(r, a, why)}}
	switch {
	case errors.Is(why, errLogin):
		e.Message = "the user name or the password is wrong"
	case why == errToken || why == errSubject:
		e.Message = errToken.Error()
	}
	return e
}

// unauthorized is the cause of a 401, with the challenge.
type unauthorized struct {
	why       error
	challenge *cache.Challenge
}

// Error says why.
func (u *unauthorized) Error() string { return u.why.Error() }

// Unwrap returns why, and the challenge.
func (u *unauthorized) Unwrap() []error { return []error{u.why, u.challenge} }

// challenge says how to log in.
func (g *Gate) challenge(r *http.Request, a cache.Access, why error) *cache.Challenge {
	if g.tokens.Load() == nil {
		return &cache.Challenge{Header: `Basic realm="` + g.service() + `"`}
	}
	header := `Bearer realm="` + g.realm(r) + `",service="` + g.service() + `"`
	switch name := a.Requested; {
	case a.Kind == cache.AccessCatalog:
		header += `,scope="registry:catalog:*"`
	case name != "":
		if r.URL.Query().Has("ns") {
			name = a.Repository // the name alone does not say which repository is meant
		}
		header += `,scope="repository:` + name + `:pull"`
	}
	switch why {
	case errToken, errSubject:
		header += `,error="invalid_token"`
	case errScope:
		header += `,error="insufficient_scope"`
	}
	return &cache.Challenge{Header: header}
}

// service names the token service.
func (g *Gate) service() string {
	if g.Service == "" {
		return DefaultService
	}
	return g.Service
}

// realm is the URL of the token service, as the client of a request reaches it.
func (g *Gate) realm(r *http.Request) string {
	if g.Realm != "" {
		return g.Realm
	}
	from := g.visitOf(r).hop
	scheme := from.proto
	if scheme == "" {
		scheme = "http"
		if r.TLS != nil {
			scheme = "https"
		}
	}
	host := r.Host
	if _, err := rule.CanonicalHost(host); err != nil {
		host = "localhost" // a client that sends nonsense cannot be led anywhere
	}
	if from.host != "" {
		host = from.host
	}
	if g.PublicHost != "" {
		host = g.PublicHost
	}
	return scheme + "://" + host + TokenPath
}

// tooMany is the answer to what is too much for now.
func tooMany(what string, wait time.Duration) *cache.Error {
	return &cache.Error{Status: http.StatusTooManyRequests, Code: cache.CodeTooManyRequests, Message: what, RetryAfter: wait}
}
