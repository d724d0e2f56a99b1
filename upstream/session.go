package upstream

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"

	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/lru"
)

const (
	// maxSessions is how many sessions are remembered, which is one for each pair of
	// rule and host.
	maxSessions = 4096
	// maxTokens is how many tokens all sessions together remember.
	maxTokens = 8192
)

// session holds what one rule has earned at one host with one credential.
type session struct {
	credential auth.Credential
	account    string // see RateLimit
	transport  *guardedTransport
	client     *orasauth.Client // earns tokens, of the same transport
	tokens     *tokenCache
	accepted   atomic.Bool // an auth.Observer knows that the credential is accepted
}

type sessionKey struct{ rule, host string }

// sessions holds the current session of each rule and host. A changed credential
// replaces the session, and with it all tokens that were earned with the former one.
type sessions struct {
	transport *guardedTransport
	accounts  *accounts
	all       *lru.Cache[sessionKey, *session]
	tokens    *lru.Cache[tokenKey, token]
}

func newSessions(t *guardedTransport) *sessions {
	return &sessions{
		transport: t,
		accounts:  newAccounts(),
		all:       lru.New[sessionKey, *session](maxSessions),
		tokens:    lru.New[tokenKey, token](maxTokens),
	}
}

// get returns the session of a source for the credential c. It makes a new one if there
// is none or if it is stale, a session that was refused.
func (m *sessions) get(s Source, c auth.Credential, stale *session) *session {
	key := sessionKey{s.Rule, s.Host}
	if have, ok := m.all.Get(key); ok && have != stale && sameCredential(have.credential, c) {
		return have
	}
	current := m.newSession(c)
	m.all.Update(key, func(have *session, ok bool) (*session, int64, bool) {
		if ok && have != stale && sameCredential(have.credential, c) {
			current = have // was made by another call in the meantime
		}
		return current, 1, true
	})
	return current
}

// elsewhere returns the anonymous session of a rule at an origin to which its upstream
// redirects. Tokens that are earned in it are shown nowhere else.
func (m *sessions) elsewhere(s Source, o origin) *session {
	return m.get(Source{Rule: s.Rule, Host: "by redirect of " + s.Host + ": " + o.String()}, auth.Credential{}, nil)
}

func (m *sessions) newSession(c auth.Credential) *session {
	s := &session{credential: c, account: m.accounts.of(c), transport: m.transport, tokens: &tokenCache{all: m.tokens}}
	s.client = &orasauth.Client{
		Client: &http.Client{
			Transport: m.transport,
			// Redirects are followed by requester.follow, hop by hop.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		ClientID: DefaultUserAgent,
		Cache:    s.tokens,
		// The host is not looked at, since a session sends requests to no other.
		Credential: func(context.Context, string) (orasauth.Credential, error) {
			return orasauth.Credential{
				Username:     c.Username,
				Password:     c.Password.Reveal(),
				RefreshToken: c.RefreshToken.Reveal(),
			}, nil
		},
		// Nothing is blocked by oras-go: callGuard is stricter, and looks up no names.
		BlockedRealmPrefixes: []netip.Prefix{},
	}
	return s
}

// do sends the hop of g to the session's host, with the credential or with a token that
// is earned with it. scopes is what a token must be good for. A token that is there
// already is shown at once; only a challenge that can be met goes to oras-go, together
// with the response that holds it.
func (s *session) do(req *http.Request, g *callGuard, scopes string) (*http.Response, error) {
	given := s.credential.AccessToken
	if !given.Empty() {
		req.Header.Set("Authorization", "Bearer "+given.Reveal())
	} else if header := s.tokens.header(req.Host, scopes); header != nil {
		req.Header["Authorization"] = header
	}
	resp, err := s.transport.send(req, g, false)
	if err != nil {
		return nil, asURLError(req, err)
	}
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("Www-Authenticate") == "" || !given.Empty() {
		return resp, nil
	}
	g.refusal = resp
	ctx := req.Context()
	if scopes != "" {
		ctx = orasauth.WithScopesForHost(ctx, req.Host, scopes)
	}
	again := req.Clone(ctx)           // the request itself may still be under way
	again.Header.Del("Authorization") // or oras-go would not look for a token
	return s.client.Do(again)
}

// asURLError returns an error in the form that net/http's Client gives it.
func asURLError(req *http.Request, err error) error {
	if record, ok := err.(tls.RecordHeaderError); ok && string(record.RecordHeader[:]) == "HTTP/" {
		err = http.ErrSchemeMismatch
	}
	return &url.Error{Op: req.Method[:1] + strings.ToLower(req.Method[1:]), URL: req.URL.String(), Err: err}
}

// sameCredential reports whether two credentials are the same. It compares the secrets
// besides Version, so that an authenticator that forgets to change Version does no harm.
func sameCredential(a, b auth.Credential) bool {
	return a.Version == b.Version && a.Username == b.Username && a.Password.Equal(b.Password) &&
		a.RefreshToken.Equal(b.RefreshToken) && a.AccessToken.Equal(b.AccessToken)
}
