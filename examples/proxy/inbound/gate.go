// Package inbound decides which clients may pull what from a cache: users with passwords, static
// tokens, client certificates, and a token service of the kind that registry clients know. It
// also bounds how much each client can ask for, and finds a client's address behind
// reverse proxies.
//
// A [Gate] stands around a cache: [Gate.Handler] is what the HTTP server calls, and
// [Gate.Authorize] is the cache's Authorize. [Connections] bounds connections, and [Watch] looks
// for changed files.
package inbound

import (
	"cmp"
	"context"
	"crypto/rand"
	"iter"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

// TokenPath is the path of the token service.
const TokenPath = "/token"

// AccessToken is the kind of a request for a token, in outcomes.
const AccessToken cache.AccessKind = "token"

// DefaultService names the token service, and so the audience of its tokens.
const DefaultService = "pullthrough"

// Gate decides about requests. Fields must not change after first use. With the zero value, and
// until [Gate.SetPolicy], every client may pull everything. A Gate must not be copied. It is safe
// for concurrent use.
type Gate struct {
	// Challenge says how clients are asked to log in. If empty, it is [Bearer].
	Challenge Challenge
	// Service names the token service. If empty, it is [DefaultService]. Proxies that accept
	// each other's tokens have the same name and the same keys.
	Service string
	// Realm is the URL of the token service, as clients reach it. If empty, it is made of
	// PublicHost, of what Proxies say, or of the Host of each request.
	Realm string
	// PublicHost is the host, with a port or without, by which clients know the cache. If
	// empty, it is what Proxies or the client say.
	PublicHost string
	// Lifetime is that of a token. If zero, 5 minutes.
	Lifetime time.Duration
	// RefreshLifetime is that of refresh tokens, which clients keep in place of a
	// password. If zero, there are none. They need keys that are durable.
	RefreshLifetime time.Duration
	// Proxies are the reverse proxies whose word about a client counts. If nil, the
	// client is at the other end of each connection.
	Proxies Proxies
	// Requests bounds the requests of each address, and UserRequests those of each user,
	// token or certificate. If zero, there is no limit.
	Requests, UserRequests Rate
	// FailedLogins bounds the failed logins of each address. If zero, 20 in a minute.
	FailedLogins Rate
	// MaxBody is how many bytes of a request's body are read. If zero, 64 KiB.
	MaxBody int64
	// Canonical returns the canonical name of a repository, such as hub/library/alpine for
	// hub/alpine. If nil, each name is canonical.
	Canonical func(ctx context.Context, name string) string
	// Repositories yields what is stored, after last, as [cache.Cache.Repositories] does.
	// If nil, only those who may pull everything can list repositories.
	Repositories func(ctx context.Context, last string) iter.Seq2[string, error]
	// Observe is called for each request that the Gate answers by itself. If nil, it is not.
	Observe func(*http.Request, cache.Outcome)
	// Logger gets what is wrong with a policy. If nil, nothing is logged.
	Logger *slog.Logger

	once      sync.Once
	key       macKey
	logins    *logins
	addresses rates[netip.Addr]
	users     rates[string]
	lists     chan struct{} // slots for lists of repositories

	changing sync.Mutex // of what follows
	rights   atomic.Pointer[rights]
	tokens   atomic.Pointer[tokens]
}

// Challenge is how clients are asked to log in.
type Challenge string

// The challenges.
const (
	// Bearer sends clients to the token service.
	Bearer Challenge = "bearer"
	// Basic asks for the password with each request. There is no token service.
	Basic Challenge = "basic"
)

// prepare makes what the fields say, at first use.
func (g *Gate) prepare() {
	g.once.Do(func() {
		rand.Read(g.key[:]) // it never fails
		failures := g.FailedLogins
		if !failures.limited() {
			failures = Rate{20, time.Minute}
		}
		g.logins = newLogins(g.key, failures)
		g.addresses = rates[netip.Addr]{g.Requests, recent[netip.Addr, bucket]{most: maxClients}}
		g.users = rates[string]{g.UserRequests, recent[string, bucket]{most: maxClients}}
		g.lists = make(chan struct{}, 4)
	})
}

// SetPolicy puts a policy in force, with the keys of the token service. A nil policy lets
// everybody pull everything. It must not be called with nil keys unless the policy is nil, or the
// challenge is [Basic].
func (g *Gate) SetPolicy(ctx context.Context, p *Policy, keys *Keys) {
	g.prepare()
	g.changing.Lock()
	defer g.changing.Unlock()
	if p == nil {
		g.rights.Store(nil)
		g.tokens.Store(nil)
		return
	}
	if keys == nil || g.Challenge == Basic {
		g.tokens.Store(nil)
	} else if old := g.tokens.Load(); old == nil || old.keys != keys {
		service := cmp.Or(g.Service, DefaultService)
		g.tokens.Store(newTokens(keys, service, service))
	}
	g.force(ctx, p)
}

// force puts a policy in force; g.changing is held.
func (g *Gate) force(ctx context.Context, p *Policy) {
	next := p.compile(ctx, &g.key)
	before := g.rights.Swap(next)
	if g.Logger == nil {
		return
	}
	told := map[string]bool{}
	if before != nil && before.policy == p {
		for _, text := range before.problems {
			told[text] = true
		}
	}
	for _, text := range next.problems {
		if !told[text] {
			g.Logger.Warn("access: " + text)
		}
	}
}

// Refresh reads the files of the policy again: passwords and tokens. If the passwords cannot be
// read, it returns the error, and they stay as they were.
func (g *Gate) Refresh(ctx context.Context) error {
	g.prepare()
	g.changing.Lock()
	defer g.changing.Unlock()
	r := g.rights.Load()
	if r == nil {
		return nil
	}
	var err error
	if r.policy.Passwords != nil {
		err = r.policy.Passwords.Load()
	}
	g.force(ctx, r.policy)
	return err
}

// visit is what is known of the client of a request.
type visit struct {
	hop
	user  string
	begun time.Time
}

type visitKey struct{}

// visitOf returns what the Gate knows of a request. For one that did not come through
// [Gate.Handler], that is made of the connection.
func (g *Gate) visitOf(r *http.Request) *visit {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok {
		return v
	}
	return &visit{hop: g.Proxies.client(r), begun: time.Now()}
}

// Client returns the address of the client of a request, and the subject that it has proved to be, such as
// user:alice, or an empty text. It is for the request that an Observe is called with.
func Client(r *http.Request) (address netip.Addr, subject string) {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok {
		return v.address, v.user
	}
	return peerOf(r), ""
}

// Handler returns what stands before a cache: it answers requests for tokens, lists of
// repositories for those who may not see all of them, and what is too much.
func (g *Gate) Handler(next http.Handler) http.Handler {
	g.prepare()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{hop: g.Proxies.client(r), begun: time.Now()}
		r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
		g.boundBody(w, r)
		if wait := g.addresses.take(sharer(v.address)); wait > 0 {
			a, _ := cache.AccessOf(r)
			g.answer(w, r, a, tooMany("too many requests from this address", wait))
			return
		}
		switch r.URL.Path {
		case TokenPath:
			if g.tokens.Load() != nil {
				g.serveToken(w, r)
				return
			}
		case "/v2/_catalog":
			if g.serveCatalog(w, r) {
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// bodyTimeout is how long the body of a request may take, which is never large.
const bodyTimeout = 30 * time.Second

// boundBody bounds the body of a request, in bytes and in time.
func (g *Gate) boundBody(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, cmp.Or(g.MaxBody, 64<<10))
	// An error means that this writer knows no deadlines, as in tests.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
}
