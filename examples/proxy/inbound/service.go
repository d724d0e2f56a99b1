package inbound

import (
	"cmp"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

// tokenRequest is what a client wants from the token service.
type tokenRequest struct {
	identity
	values  url.Values
	offline bool   // it wants a refresh token
	refresh string // it has shown this one
}

// tokenResponse is the answer. Clients of GET look for token, those of POST for access_token.
type tokenResponse struct {
	Token        string `json:"token"`
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	IssuedAt     string `json:"issued_at"`
	Scope        string `json:"scope,omitempty"`
	RefreshToken string `json:"refresh_token,omitempty"`
}

// serveToken answers a request for a token, by the token protocols of Docker: GET with Basic, or
// POST of a form.
func (g *Gate) serveToken(w http.ResponseWriter, r *http.Request) {
	access := cache.Access{Kind: AccessToken}
	p, t := g.rights.Load(), g.tokens.Load()
	if p == nil || t == nil {
		g.answer(w, r, access, &cache.Error{Status: http.StatusNotFound, Code: cache.CodeUnsupported, Message: "there is no token service"})
		return
	}
	var q tokenRequest
	var err error
	switch r.Method {
	case http.MethodGet:
		q, err = g.tokenByGet(r, p)
	case http.MethodPost:
		q, err = g.tokenByPost(r, p, t)
	default:
		w.Header().Set("Allow", "GET, POST")
		err = &cache.Error{Status: http.StatusMethodNotAllowed, Code: cache.CodeUnsupported, Message: "tokens are had by GET or POST"}
	}
	if err == nil {
		if e := g.countUser(q.identity); e != nil {
			err = e
		}
	}
	if err == nil && q.subject == "" {
		if len(p.policy.Anonymous) == 0 {
			err = ErrNoCredentials
		}
		q.subject = anonymous
	}
	var scopes []scope
	if err == nil {
		scopes, err = g.grant(r, q)
	}
	if err != nil {
		g.answer(w, r, access, g.tokenError(err))
		return
	}
	if q.subject != anonymous {
		g.visitOf(r).user = q.subject
	}
	response, err := g.newToken(p, t, q, scopes)
	if err != nil {
		g.answer(w, r, access, &cache.Error{Status: http.StatusInternalServerError, Code: cache.CodeUnknown, Message: "the token could not be signed", Err: err})
		return
	}
	g.observe(r, access, http.StatusOK, writeJSON(w, r, http.StatusOK, response), nil)
}

// tokenError is the answer to a request that gets no token. Its challenge is Basic, since a token
// proves nothing here.
func (g *Gate) tokenError(err error) *cache.Error {
	switch e := err.(type) {
	case *cache.Error:
		return e
	case *limitError:
		return tooMany(e.what, e.wait)
	}
	e := &cache.Error{Status: http.StatusUnauthorized, Code: cache.CodeUnauthorized, Message: "authentication required",
		Err: &unauthorized{err, &cache.Challenge{Header: `Basic realm="` + g.service() + `"`}}}
	switch {
	case errors.Is(err, errLogin):
		e.Message = "the user name or the password is wrong"
	case err == errToken || err == errSubject:
		e.Message = "the refresh token is not valid any more: log in again"
	}
	return e
}

// tokenByGet reads a GET.
func (g *Gate) tokenByGet(r *http.Request, p *rights) (tokenRequest, error) {
	q := tokenRequest{values: r.URL.Query()}
	q.offline = q.values.Get("offline_token") == "true"
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return q, badToken("a token cannot be had for a token: log in with a user name and a password")
	}
	var err error
	q.identity, err = g.identify(r, p)
	return q, err
}

// tokenByPost reads a form.
func (g *Gate) tokenByPost(r *http.Request, p *rights, t *tokens) (tokenRequest, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return tokenRequest{}, &cache.Error{Status: http.StatusUnsupportedMediaType, Code: cache.CodeUnsupported, Message: "a form is expected (application/x-www-form-urlencoded)"}
	}
	if err := r.ParseForm(); err != nil {
		return tokenRequest{}, badToken("the form cannot be read, or is too large")
	}
	q := tokenRequest{values: r.PostForm}
	q.offline = q.values.Get("access_type") == "offline"
	var err error
	switch q.values.Get("grant_type") {
	case "password":
		q.identity, err = g.login(r, p, q.values.Get("username"), q.values.Get("password"))
	case "refresh_token":
		q.refresh = q.values.Get("refresh_token")
		q.identity, err = p.byRefresh(t, q.refresh)
	default:
		err = badToken("the grant type is neither password nor refresh_token")
	}
	return q, err
}

// byRefresh finds who has a refresh token.
func (p *rights) byRefresh(t *tokens, text string) (identity, error) {
	c, err := t.check(text, t.refreshAudience())
	if err != nil {
		return identity{}, err
	}
	name, isUser := strings.CutPrefix(c.Subject, kindUser)
	hash, known := p.policy.Passwords.hash(name)
	if !isUser || !known || !c.sameLogin(hash) {
		return identity{}, errSubject
	}
	pull, _ := p.of(c.Subject)
	return identity{subject: c.Subject, pull: pull}, nil
}

// badToken is the answer to a request that is wrong by itself.
func badToken(text string) *cache.Error {
	return &cache.Error{Status: http.StatusBadRequest, Code: cache.CodeUnsupported, Message: text}
}

// grant returns which of the requested scopes a client gets: to pull what it may pull, under the name
// that it has written and under the canonical one.
func (g *Gate) grant(r *http.Request, q tokenRequest) ([]scope, error) {
	if service := q.values.Get("service"); service != "" && service != g.service() {
		return nil, badToken("this token service is not the one that was asked for")
	}
	wanted, err := parseScopes(q.values["scope"])
	if err != nil {
		return nil, badToken(err.Error())
	}
	var granted []scope
	for _, s := range wanted {
		switch {
		case s.has(typeRegistry, catalogName, cache.ActionAll):
			granted = append(granted, scope{typeRegistry, catalogName, []string{cache.ActionAll}})
		case s.has(typeRepository, s.Name, cache.ActionPull):
			for _, name := range g.readable(r, q.pull, s.Name) {
				granted = append(granted, scope{typeRepository, name, []string{cache.ActionPull}})
			}
		}
	}
	return granted, nil
}

// readable returns the names for which a client gets a token that asks for one: none if it may not
// pull the repository.
func (g *Gate) readable(r *http.Request, pull Patterns, name string) []string {
	if len(name) > maxNameLen || !repositoryName.MatchString(name) {
		return nil
	}
	canonical := name
	if g.Canonical != nil {
		canonical = g.Canonical(r.Context(), name)
	}
	switch {
	case !pull.Match(canonical):
		return nil
	case canonical == name:
		return []string{name}
	}
	return []string{name, canonical}
}

// newToken signs a token, and a refresh token if there is one to be had.
func (g *Gate) newToken(p *rights, t *tokens, q tokenRequest, scopes []scope) (tokenResponse, error) {
	lifetime := cmp.Or(g.Lifetime, defaultLifetime)
	text, issued, err := t.issue(t.service, q.subject, lifetime, claims{Access: scopes})
	if err != nil {
		return tokenResponse{}, err
	}
	response := tokenResponse{
		Token: text, AccessToken: text, TokenType: "Bearer", ExpiresIn: int(lifetime / time.Second), IssuedAt: issued.UTC().Format(time.RFC3339),
		RefreshToken: q.refresh,
	}
	var words []string
	for _, s := range scopes {
		words = append(words, s.String())
	}
	response.Scope = strings.Join(words, " ")
	if name, isUser := strings.CutPrefix(q.subject, kindUser); isUser && q.offline && q.refresh == "" && g.RefreshLifetime > 0 && t.keys.Durable {
		hash, _ := p.policy.Passwords.hash(name)
		response.RefreshToken, _, err = t.issue(t.refreshAudience(), q.subject, g.RefreshLifetime, claims{Login: loginOf(hash)})
	}
	return response, err
}
