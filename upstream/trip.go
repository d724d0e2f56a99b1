package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/acr"
)

// trip is one question on its way through redirects and challenges. It knows
// how deep inside those lie who say where to go next.
type trip struct {
	engine *engine
	host   string // canonical, of the rule
	home   origin // where the rule's host is asked
	realms []string
	pass   bool // a user name or password is there for Basic
	bearer bool // the token goes out as it is, challenges do not matter
	own    bool // the token is good for the rule's host only, no other service may be named

	method, url string       // of the hop that is under way
	shown       string       // the token that the hop carried last; empty: none
	left        bool         // a redirect led away from home: for good
	seen        atomic.Int32 // depth: the shallowest that answered so far, by its connection
	told        atomic.Int32 // the same as far as it counts for addresses in URLs
}

type tripKey struct{}

func withTrip(ctx context.Context, t *trip) context.Context {
	return context.WithValue(ctx, tripKey{}, t)
}

func tripOf(ctx context.Context) *trip {
	t, _ := ctx.Value(tripKey{}).(*trip)
	return t
}

func (r *repository) newTrip(c auth.Credential) *trip {
	t := &trip{
		engine: r.engine,
		host:   r.source.Host,
		home:   r.origin,
		realms: r.engine.hosts[r.source.Host].Realms,
		pass:   c.Username != "" && !c.Password.Empty(),
		bearer: !c.AccessToken.Empty(),
	}
	if _, ok := acr.LoginServer(t.host); ok {
		t.own = !c.RefreshToken.Empty()
	}
	t.seen.Store(int32(unknown))
	t.told.Store(int32(unknown))
	return t
}

// to notes the request that comes next, so that it can be told from the
// requests to token servers that come in between.
func (t *trip) to(req *http.Request) { t.method, t.url = req.Method, req.URL.String() }

func (t *trip) forToken(req *http.Request) bool {
	return req.Method != t.method || req.URL.String() != t.url
}

// saw notes how deep inside the one lies who answers. A connection that we did
// not dial ourselves may end at a tunnel, often on loopback: what it says
// counts against other connections, never in favour of an address in a URL.
func (t *trip) saw(conn, said depth, ours bool) {
	shallowest(&t.seen, conn)
	if ours {
		said = conn
	}
	shallowest(&t.told, said)
}

func shallowest(v *atomic.Int32, d depth) {
	d = max(d, public)
	if s := depth(v.Load()); s == unknown || d < s {
		v.Store(int32(d))
	}
}

// limit is how deep the address may lie that is dialled for u.
func (t *trip) limit(u *url.URL) depth { return t.limitFrom(u, &t.seen) }

// limitFrom is how deep the host of u may lie, if v is how deep those lie who
// lead there.
func (t *trip) limitFrom(u *url.URL, v *atomic.Int32) depth {
	if originOf(u) == t.home || t.named(u) {
		return loopback
	}
	d := max(depth(v.Load()), public)
	if acr.Companion(t.host, u.Hostname()) {
		return max(d, private)
	}
	return d
}

// named reports whether the embedder named the host of u.
func (t *trip) named(u *url.URL) bool {
	host := hostOf(u)
	if _, ok := t.engine.hosts[host]; ok {
		return true
	}
	return t.listed(host)
}

func (t *trip) listed(host string) bool {
	for _, realm := range t.realms {
		if realm == host {
			return true
		}
	}
	return false
}

// hostOf is the canonical host of u.
func hostOf(u *url.URL) string { return canonical(originOf(u).host) }

// check refuses a URL that nobody should be asked for, whoever named it.
func (t *trip) check(u *url.URL) error {
	if u.User != nil {
		return &guardError{"the upstream leads to an address with a password in it"}
	}
	if u.Hostname() == "" || !legalHost(strings.ToLower(u.Host)) {
		return &guardError{"the upstream leads to an address that cannot be read"}
	}
	return within(depthOfHost(u.Hostname()), t.limitFrom(u, &t.told), fmt.Sprintf("the host %q", u.Hostname()))
}

// redirect returns where the answer to from leads.
func (t *trip) redirect(from *url.URL, location string) (*url.URL, error) {
	to, err := url.Parse(location)
	if err != nil {
		return nil, &guardError{"the address of a redirect cannot be read"}
	}
	if !to.IsAbs() {
		to = from.ResolveReference(to)
	}
	to.Fragment, to.RawFragment = "", ""
	switch {
	case to.Scheme == "https":
	case to.Scheme == "http" && from.Scheme == "http":
	case to.Scheme == "http":
		return nil, &guardError{"a redirect leads from https to http"}
	default:
		return nil, &guardError{"a redirect leads to something that is not http"}
	}
	if err := t.check(to); err != nil {
		return nil, err
	}
	if originOf(to) != t.home {
		t.left = true
	}
	return to, nil
}

// realm checks the address of a token server: the rule's own host, a companion
// of it, or one that is listed for it; https, unless it is named as plain.
func (t *trip) realm(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() || u.Host == "" {
		return nil, &guardError{"the realm of the challenge cannot be read"}
	}
	u.Fragment, u.RawFragment = "", ""
	host := hostOf(u)
	if originOf(u) != t.home && !t.listed(host) && !issues(t.host, host) {
		return nil, &guardError{fmt.Sprintf("the realm %q is not allowed to issue tokens for %q; if it may see that host's credentials, list it as a realm", host, t.host)}
	}
	if u.Scheme != "https" && (u.Scheme != "http" || t.home.scheme != "http" || !t.engine.hosts[host].PlainHTTP) {
		return nil, &guardError{fmt.Sprintf("the realm %q is not https", host)}
	}
	if err := t.check(u); err != nil {
		return nil, err
	}
	return u, nil
}

// issues is the table of token servers that registries are known to have at
// another host. It is short on purpose: a credential goes there.
func issues(host, realm string) bool {
	switch host {
	case "docker.io":
		return realm == "auth.docker.io"
	case "registry.gitlab.com":
		return realm == "gitlab.com"
	case "docker.elastic.co":
		return realm == "docker-auth.elastic.co"
	}
	return false
}
