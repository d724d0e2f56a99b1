package upstream

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
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
	print      [sha256.Size]byte // the fingerprint of credential
	credential auth.Credential
	http       *http.Client
	client     *orasauth.Client
	tokens     *tokenCache
	accepted   atomic.Bool // an auth.Observer knows that the credential is accepted
}

type sessionKey struct{ rule, host string }

// sessions holds the current session of each rule and host. A changed credential
// replaces the session, and with it all tokens that were earned with the former one.
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

// get returns the session of a source for the credential c. It makes a new one if there
// is none or if it is stale, a session that was refused.
func (m *sessions) get(s Source, c auth.Credential, stale *session) *session {
	key, print := sessionKey{s.Rule, s.Host}, fingerprint(c)
	if have, ok := m.all.Get(key); ok && have.print == print && have != stale {
		return have
	}
	current := m.newSession(c, print)
	m.all.Update(key, func(have *session, ok bool) (*session, int64, bool) {
		if ok && have.print == print && have != stale {
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

func (m *sessions) newSession(c auth.Credential, print [sha256.Size]byte) *session {
	s := &session{print: print, credential: c, http: m.http, tokens: &tokenCache{all: m.tokens}}
	s.client = &orasauth.Client{
		Client:   m.http,
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

// do sends a request to the session's host with the credential, or with a token that
// is earned with it.
func (s *session) do(req *http.Request) (*http.Response, error) {
	if !s.credential.AccessToken.Empty() {
		req.Header.Set("Authorization", "Bearer "+s.credential.AccessToken.Reveal())
		return s.http.Do(req)
	}
	return s.client.Do(req)
}

// fingerprint returns a value by which credentials are told apart. It covers the secrets
// besides Version, so that an authenticator that forgets to change Version does no harm.
func fingerprint(c auth.Credential) (print [sha256.Size]byte) {
	h := sha256.New()
	for _, part := range []string{c.Version, c.Username, c.Password.Reveal(), c.RefreshToken.Reveal(), c.AccessToken.Reveal()} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	h.Sum(print[:0])
	return print
}
