package upstream

import (
	"net/http"
	"time"

	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/lru"
)

// engine is a [Client] with its defaults resolved, and what its repositories share.
//
// A request passes these parts, from the top down: repository turns manifests, blobs
// and lists into calls; requester makes a call with the rule's credential, and once
// more if that is refused; its follow sends one request for each redirect, in a session,
// which holds the tokens of one rule at one host and has oras-go meet challenges; and
// guardedTransport is what each of those requests passes, and each request for a token,
// on the way to the sender; what Client.WrapTransport returned is between the two. Beside them, callGuard decides what
// a call may ask and show, by the hostPolicy of the rule's host and by what the call has
// met so far.
type engine struct {
	hosts         map[string]Host // Client.Hosts
	total         time.Duration   // Client.TotalTimeout
	observe       func(Call)      // Client.Observe
	pool          *transportPool
	sessions      *sessions
	etags         *lru.Cache[etagKey, string]
	lackReferrers *lru.Cache[Source, time.Time]
}

// resolve returns the engine of c, which is made at first use.
func (c *Client) resolve() *engine {
	c.once.Do(func() { c.engine = newEngine(c) })
	return c.engine
}

func newEngine(c *Client) *engine {
	pool := &transportPool{
		replaced:    c.Transport,
		proxy:       c.Proxy,
		dial:        c.Dial,
		dialTimeout: orDefault(c.DialTimeout, DefaultDialTimeout),
		open:        map[poolKey]*pooled{},
	}
	if pool.proxy == nil {
		pool.proxy = http.ProxyFromEnvironment
	}
	return &engine{
		hosts:         c.Hosts,
		total:         orDefault(c.TotalTimeout, DefaultTotalTimeout),
		observe:       c.Observe,
		pool:          pool,
		sessions:      newSessions(newTransport(c, pool)),
		etags:         lru.New[etagKey, string](maxETags),
		lackReferrers: lru.New[Source, time.Time](maxLackReferrers),
	}
}

// newTransport returns what all requests of c pass.
func newTransport(c *Client, pool *transportPool) *guardedTransport {
	send := &sender{pool: pool}
	if c.Transport == nil {
		send.answerTimeout = orDefault(c.AnswerTimeout, DefaultAnswerTimeout)
	}
	userAgent := c.UserAgent
	if userAgent == "" {
		userAgent = DefaultUserAgent
	}
	t := &guardedTransport{userAgent: []string{userAgent}, sender: send}
	if c.WrapTransport != nil {
		t.wrapped = c.WrapTransport(send)
	}
	return t
}

// orDefault returns d, or otherwise if d is not positive.
func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// repository returns the repository of s with an authenticator that is not nil.
func (e *engine) repository(s Source, a auth.Authenticator) *repository {
	policy := newHostPolicy(s.Host, e.hosts)
	f := &failures{source: s, policy: policy}
	scope := orasauth.ScopeRepository(s.Repository, orasauth.ActionPull)
	return &repository{
		source:        s,
		failures:      f,
		observe:       e.observe,
		requests:      &requester{source: s, auth: a, policy: policy, failures: f, sessions: e.sessions, total: e.total, scope: scope},
		etags:         e.etags,
		lackReferrers: e.lackReferrers,
	}
}
