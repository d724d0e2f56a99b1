package upstream

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"oras.land/oras-go/v2/errdef"
	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pullthrough/pullthrough/internal/lru"
)

const (
	// tokenTimeout limits one request for a token, which goes on when the callers that
	// wanted the token have left. A longer WithAnswerTimeout replaces it.
	tokenTimeout = 30 * time.Second
	// sharedTokenAge is the age up to which a token is used by a call that was refused
	// without it. It serves a crowd of first requests that are refused at about the same
	// time.
	sharedTokenAge = 2 * time.Second
)

// tokenKey says what a token is for. It is comparable; owner keeps sessions apart.
type tokenKey struct {
	owner  *tokenCache
	host   string
	scheme orasauth.Scheme
	scopes string
}

// token is an access token, or the credential itself as Basic authentication shows it,
// and when it was received.
type token struct {
	text     string
	header   []string // the values of Authorization that show it; they do not change
	received time.Time
}

// tokenCache is the token cache of one session, on top of a bounded cache that all
// sessions share. Unlike that of oras-go, where all callers fail if the first of them
// leaves, a request for a token does not belong to any caller. It is safe for concurrent
// use.
type tokenCache struct {
	all    *lru.Cache[tokenKey, token]
	flight singleflight.Group

	mu     sync.Mutex
	scheme orasauth.Scheme // that the host last asked for
}

// GetScheme implements [orasauth.Cache]. A tokenCache serves one host and does not look
// at its name.
func (c *tokenCache) GetScheme(context.Context, string) (orasauth.Scheme, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scheme == orasauth.SchemeUnknown {
		return orasauth.SchemeUnknown, errdef.ErrNotFound
	}
	return c.scheme, nil
}

// earned reports whether there ever was a token, which means that the host does not
// take the credential itself.
func (c *tokenCache) earned() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scheme == orasauth.SchemeBearer
}

// GetToken implements [orasauth.Cache]: it returns a token that was earned before.
func (c *tokenCache) GetToken(_ context.Context, host string, scheme orasauth.Scheme, scopes string) (string, error) {
	if t, ok := c.all.Get(tokenKey{c, host, scheme, scopes}); ok {
		return t.text, nil
	}
	return "", errdef.ErrNotFound
}

// header returns the values of Authorization for the first request of a call that needs
// the scopes: those of the token that oras-go would look for. If there is no such token,
// it returns nil.
func (c *tokenCache) header(host, scopes string) []string {
	c.mu.Lock()
	scheme := c.scheme
	c.mu.Unlock()
	switch scheme {
	case orasauth.SchemeUnknown:
		return nil
	case orasauth.SchemeBasic:
		scopes = ""
	}
	t, _ := c.all.Get(tokenKey{c, host, scheme, scopes})
	return t.header
}

// Set implements [orasauth.Cache]: it fetches a token, once for all callers that want
// the same one at the same time. If a token was received a moment ago, and the call was
// refused without it, that token is returned.
func (c *tokenCache) Set(ctx context.Context, host string, scheme orasauth.Scheme, scopes string, fetch func(context.Context) (string, error)) (string, error) {
	key := tokenKey{c, host, scheme, scopes}
	refused := ""
	if g := guardOf(ctx); g != nil {
		refused = g.token
	}
	done := c.flight.DoChan(host+" "+scheme.String()+" "+scopes, func() (any, error) {
		if t, ok := c.all.Get(key); ok && time.Since(t.received) < sharedTokenAge && t.text != refused {
			return t.text, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(tokenTimeout, answerTimeoutOf(ctx)))
		defer cancel()
		text, err := fetch(ctx)
		if err != nil {
			return "", err
		}
		c.all.Put(key, token{text, []string{scheme.String() + " " + text}, time.Now()}, 1)
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
