package upstream

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"oras.land/oras-go/v2/errdef"
	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/lru"
)

const (
	// maxSessions bounds how many pairs of rule and host are remembered.
	maxSessions = 4096
	// maxTokens bounds the tokens of all sessions together.
	maxTokens = 8192
	// tokenTimeout bounds one question to a token server, which runs on when
	// those who asked have left.
	tokenTimeout = 30 * time.Second
	// justNow is how long ago a token came that a crowd of first requests, all
	// refused at about the same time, may share.
	justNow = 2 * time.Second
)

// tokenError is a token server that gives no token.
type tokenError struct {
	host       string // canonical
	elsewhere  bool   // it is that of a registry that a redirect led to
	status     int
	said       said
	retryAfter time.Duration
}

func (e *tokenError) Error() string {
	return fmt.Sprintf("the token server %s answered with status %d", shorten(e.host), e.status)
}

// tokenAnswer lets only a token pass; oras-go would forget Retry-After.
func tokenAnswer(resp *http.Response, elsewhere bool) (*http.Response, error) {
	if resp.StatusCode == http.StatusOK && identity(resp.Header) == nil {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, &tokenError{hostOf(resp.Request.URL), elsewhere, resp.StatusCode, saidIn(resp), retryAfter(resp.Header, time.Now())}
}

// credentialError is an authenticator that gives no credential. Its text is the
// authenticator's and stays in the log.
type credentialError struct{ err error }

func (e *credentialError) Error() string { return "no credential: " + e.err.Error() }
func (e *credentialError) Unwrap() error { return e.err }

// request says for whom a credential is wanted.
func (r *repository) request() auth.Request {
	return auth.Request{Rule: r.source.Rule, Host: r.source.Host, Repository: r.source.Repository}
}

func (r *repository) credential(ctx context.Context) (auth.Credential, error) {
	c, err := r.auth.Credential(ctx, r.request())
	if err != nil {
		return auth.Credential{}, &credentialError{err}
	}
	return c, nil
}

// authorized asks with the credential of the rule. If it is refused, the
// authenticator is told, and the question asked once more with what it gives
// then; not twice. anonymous says that there is no credential.
func (r *repository) authorized(ctx context.Context, c call, u *url.URL) (resp *http.Response, anonymous bool, err error) {
	cred, err := r.credential(ctx)
	if err != nil {
		return nil, false, err
	}
	s := r.engine.sessions.get(r.source, cred, nil)
	resp, err = r.follow(ctx, c, u, s)
	if cred.Anonymous() {
		return resp, true, err
	}
	if refused(resp, err, r.origin) {
		s, resp, err = r.renewed(ctx, c, u, s, resp, err)
	}
	if s == nil {
		return nil, false, err
	}
	resp, err = r.observe(c, s, resp, err)
	return resp, false, err
}

// renewed tells the authenticator that the credential of s was refused, and asks
// once more if there is another one now. Without a session there is none at all.
func (r *repository) renewed(ctx context.Context, c call, u *url.URL, s *session, resp *http.Response, err error) (*session, *http.Response, error) {
	renewer, tell := as[auth.Renewer](r.auth)
	if tell {
		renewer.Renew(r.request(), s.credential, err != nil || !s.tokens.earned())
	} else if inv, ok := as[auth.Invalidator](r.auth); ok {
		tell = true
		inv.Invalidate(r.request(), s.credential)
	}
	again, failed := r.credential(ctx)
	if failed == nil && !tell && fingerprint(again) == s.print {
		return s, resp, err
	}
	if resp != nil {
		_ = resp.Body.Close()
	}
	if failed != nil {
		return nil, nil, failed
	}
	s = r.engine.sessions.get(r.source, again, s)
	resp, err = r.follow(ctx, c, u, s)
	return s, resp, err
}

// refused reports whether the rule's host or its token server refused the
// credential. What a redirect's target or its token server says is not about the
// credential.
func refused(resp *http.Response, err error, home origin) bool {
	var token *tokenError
	if errors.As(err, &token) {
		return !token.elsewhere && (token.status == http.StatusUnauthorized || token.status == http.StatusBadRequest)
	}
	return err == nil && resp.StatusCode == http.StatusUnauthorized && originOf(resp.Request.URL) == home
}

// as finds an optional ability of an authenticator, looking through Unwrap.
func as[T any](a auth.Authenticator) (T, bool) {
	for a != nil {
		if t, ok := a.(T); ok {
			return t, true
		}
		u, ok := a.(interface{ Unwrap() auth.Authenticator })
		if !ok {
			break
		}
		a = u.Unwrap()
	}
	var none T
	return none, false
}

type sessionKey struct{ rule, host string }

// session is what one rule has earned at one host with one credential.
type session struct {
	print      [sha256.Size]byte
	credential auth.Credential
	http       *http.Client
	client     *orasauth.Client
	tokens     *tokenCache
	accepted   atomic.Bool // the authenticator was told
}

// sessions holds the current session of each rule and host. A credential that
// changed replaces the session, and with it all tokens that the old one earned.
type sessions struct {
	http   *http.Client
	all    *lru.Cache[sessionKey, *session]
	tokens *lru.Cache[tokenKey, token]
}

func newSessions(client *http.Client) *sessions {
	return &sessions{
		http:   client,
		all:    lru.New[sessionKey, *session](maxSessions),
		tokens: lru.New[tokenKey, token](maxTokens),
	}
}

// get returns the session of s for the credential c, but not stale.
func (m *sessions) get(s Source, c auth.Credential, stale *session) *session {
	key, print := sessionKey{s.Rule, s.Host}, fingerprint(c)
	if have, ok := m.all.Get(key); ok && have.print == print && have != stale {
		return have
	}
	fresh := m.session(c, print)
	m.all.Update(key, func(have *session, ok bool) (*session, int64, bool) {
		if ok && have.print == print && have != stale {
			fresh = have // somebody else was first
		}
		return fresh, 1, true
	})
	return fresh
}

// elsewhere returns the anonymous session of a rule at an origin that a redirect
// of its upstream leads to. What it earns there is shown nowhere else.
func (m *sessions) elsewhere(s Source, o origin) *session {
	return m.get(Source{Rule: s.Rule, Host: "by redirect of " + s.Host + ": " + o.String()}, auth.Credential{}, nil)
}

func (m *sessions) session(c auth.Credential, print [sha256.Size]byte) *session {
	s := &session{print: print, credential: c, http: m.http, tokens: &tokenCache{all: m.tokens}}
	s.client = &orasauth.Client{
		Client:   m.http,
		ClientID: DefaultUserAgent,
		Cache:    s.tokens,
		// The host is the session's: the client is asked for no other.
		Credential: func(context.Context, string) (orasauth.Credential, error) {
			return orasauth.Credential{
				Username:     c.Username,
				Password:     c.Password.Reveal(),
				RefreshToken: c.RefreshToken.Reveal(),
			}, nil
		},
		BlockedRealmPrefixes: []netip.Prefix{}, // our own guard is stricter and looks up no names
	}
	return s
}

// do sends a request to the session's host and shows the credential there.
func (s *session) do(req *http.Request) (*http.Response, error) {
	if !s.credential.AccessToken.Empty() {
		req.Header.Set("Authorization", "Bearer "+s.credential.AccessToken.Reveal())
		return s.http.Do(req)
	}
	return s.client.Do(req)
}

// fingerprint tells credentials apart. It covers the secrets too, so that an
// authenticator that forgets to change Version does no harm.
func fingerprint(c auth.Credential) (print [sha256.Size]byte) {
	h := sha256.New()
	for _, part := range []string{c.Version, c.Username, c.Password.Reveal(), c.RefreshToken.Reveal(), c.AccessToken.Reveal()} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	h.Sum(print[:0])
	return print
}

// tokenKey is comparable; owner keeps sessions apart.
type tokenKey struct {
	owner  *tokenCache
	host   string
	scheme orasauth.Scheme
	scopes string
}

// token is an access token and when it came.
type token struct {
	text string
	at   time.Time
}

// tokenCache is the token cache of one session, in a space that all sessions
// share and that is bounded. Unlike oras-go's own, whose first caller fails all
// others when it leaves, a question to the token server belongs to nobody.
type tokenCache struct {
	all    *lru.Cache[tokenKey, token]
	flight singleflight.Group

	mu     sync.Mutex
	scheme orasauth.Scheme
}

// GetScheme returns the scheme that the host asked for last.
func (c *tokenCache) GetScheme(context.Context, string) (orasauth.Scheme, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scheme == orasauth.SchemeUnknown {
		return orasauth.SchemeUnknown, errdef.ErrNotFound
	}
	return c.scheme, nil
}

// earned reports whether there ever was a token: the host does not take the
// credential itself.
func (c *tokenCache) earned() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scheme == orasauth.SchemeBearer
}

// GetToken returns a token that was earned before.
func (c *tokenCache) GetToken(_ context.Context, host string, scheme orasauth.Scheme, scopes string) (string, error) {
	if t, ok := c.all.Get(tokenKey{c, host, scheme, scopes}); ok {
		return t.text, nil
	}
	return "", errdef.ErrNotFound
}

// Set fetches a token, once for all who want the same at the same time. Who was
// refused without the token that came a moment ago takes that one.
func (c *tokenCache) Set(ctx context.Context, host string, scheme orasauth.Scheme, scopes string, fetch func(context.Context) (string, error)) (string, error) {
	key := tokenKey{c, host, scheme, scopes}
	shown := ""
	if t := tripOf(ctx); t != nil {
		shown = t.shown
	}
	done := c.flight.DoChan(host+" "+scheme.String()+" "+scopes, func() (any, error) {
		if t, ok := c.all.Get(key); ok && time.Since(t.at) < justNow && t.text != shown {
			return t.text, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tokenTimeout)
		defer cancel()
		text, err := fetch(ctx)
		if err != nil {
			return "", err
		}
		c.all.Put(key, token{text, time.Now()}, 1)
		c.mu.Lock()
		c.scheme = scheme
		c.mu.Unlock()
		return text, nil
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return "", r.Err
		}
		return r.Val.(string), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
