package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/pullthrough/pullthrough/internal/acr"
	"github.com/pullthrough/pullthrough/internal/ociname"
)

// trip is one question on its way through redirects and challenges. It knows
// how deep inside those lie who say where to go next.
type trip struct {
	engine *engine
	host   string // canonical, of the rule
	home   origin // where the rule's host is asked
	realms []string
	leads  []string // further hosts that the rule's host may lead to
	rule   *session // the rule's, whose secrets must not come back in a text
	proof  *session // what the hop that is under way shows: the rule's at home, an anonymous one elsewhere

	hop   *http.Request // that is under way, as it was made
	shown string        // the token that the hop carried last; empty: none
	sent  []string      // all tokens that hops carried, earned or the credential's own
	left  bool          // a redirect led away from home: for good
	seen  atomic.Int32  // depth: the shallowest that answered so far, by its connection
	told  atomic.Int32  // the same as far as it counts for addresses in URLs
}

type tripKey struct{}

func withTrip(ctx context.Context, t *trip) context.Context {
	return context.WithValue(ctx, tripKey{}, t)
}

func tripOf(ctx context.Context) *trip {
	t, _ := ctx.Value(tripKey{}).(*trip)
	return t
}

func (r *repository) newTrip(s *session) *trip {
	t := &trip{
		engine: r.engine,
		host:   r.source.Host,
		home:   r.origin,
		realms: r.engine.hosts[r.source.Host].Realms,
		leads:  r.engine.hosts[r.source.Host].Redirects,
		rule:   s,
		proof:  s,
	}
	t.seen.Store(int32(unknown))
	t.told.Store(int32(unknown))
	return t
}

// to notes the request that comes next, so that it can be told from the
// requests to token servers that come in between.
func (t *trip) to(req *http.Request) { t.hop = req }

func (t *trip) forToken(req *http.Request) bool {
	return req.Method != t.hop.Method || req.URL.String() != t.hop.URL.String()
}

// anonymous reports whether there is nothing to lose at this hop.
func (t *trip) anonymous() bool { return t.proof.credential.Anonymous() }

// basic reports whether a user name and a password are there for Basic.
func (t *trip) basic() bool {
	return t.proof.credential.Username != "" && !t.proof.credential.Password.Empty()
}

// bearer reports whether the token goes out as it is: challenges do not matter.
func (t *trip) bearer() bool { return !t.proof.credential.AccessToken.Empty() }

// own reports whether the token is good for the rule's host only, so that no other
// service may be named.
func (t *trip) own() bool {
	_, registry := acr.LoginServer(t.host)
	return registry && !t.proof.credential.RefreshToken.Empty()
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

// named reports whether the embedder named the host of u for the rule's host. An
// entry in Client.Hosts alone names a host for its own rules only.
func (t *trip) named(u *url.URL) bool {
	host := hostOf(u)
	return host == t.host || t.listed(host) || slices.Contains(t.leads, host) || t.engine.hosts[host].AnyUpstream
}

func (t *trip) listed(host string) bool { return slices.Contains(t.realms, host) }

// hostOf is the canonical host of u.
func hostOf(u *url.URL) string { return ociname.FoldHost(originOf(u).host) }

// check refuses a URL that nobody should be asked for, whoever named it.
func (t *trip) check(u *url.URL) error {
	if err := readable(u); err != nil {
		return err
	}
	return within(depthOfHost(u.Hostname()), t.limitFrom(u, &t.told), "the host "+t.quote(u.Hostname()))
}

// readable refuses a URL that others might read differently from the guard.
func readable(u *url.URL) error {
	if u.User != nil {
		return &guardError{"the upstream leads to an address with a password in it", "it leads to an address that cannot be used"}
	}
	if !ociname.ValidURLHost(u.Host) {
		return errAddress
	}
	return nil
}

// errAddress reports an address that an upstream names and that no request can be
// sent to.
var errAddress = &guardError{"the upstream leads to an address that cannot be read", "it leads to an address that cannot be used"}

// secure makes an address https that a server behind a TLS proxy wrote as http,
// not knowing how it is asked: its own, asked over https.
func secure(u, from *url.URL) {
	own := strings.EqualFold(u.Hostname(), from.Hostname()) && (u.Port() == "" || u.Port() == "80" || u.Port() == from.Port())
	if u.Scheme == "http" && from.Scheme == "https" && own {
		u.Scheme, u.Host = from.Scheme, from.Host
	}
}

// redirect returns where the answer to from leads.
func (t *trip) redirect(from *url.URL, location string) (*url.URL, error) {
	to, err := url.Parse(location)
	if err != nil {
		return nil, errAddress
	}
	if !to.IsAbs() {
		to = from.ResolveReference(to)
	}
	to.Fragment, to.RawFragment = "", ""
	secure(to, from)
	switch {
	case to.Scheme == "https":
	case to.Scheme == "http" && from.Scheme == "http":
	case to.Scheme == "http":
		return nil, &guardError{"a redirect leads from https to http at the host " + t.quote(to.Hostname()),
			"it redirects from https to http: the registry, or the proxy in front of it, must be told its public https address"}
	default:
		return nil, &guardError{"a redirect leads to something that is not http", "it leads to an address that cannot be used"}
	}
	if err := t.check(to); err != nil {
		return nil, err
	}
	if originOf(to) != t.home {
		t.left = true
	}
	return to, nil
}

// realm checks the address of a token server. Where a credential is to be shown it
// is the rule's own host, a companion of it, or one that is listed for it; where
// none is there, it is any host that the rules for addresses allow. It is asked
// over https, unless it is named as plain.
func (t *trip) realm(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() || u.Host == "" {
		return nil, &guardError{"the realm of the challenge cannot be read", "the address of its token server cannot be used"}
	}
	if err := readable(u); err != nil {
		return nil, err
	}
	u.Fragment, u.RawFragment = "", ""
	host := hostOf(u)
	if !t.anonymous() && originOf(u) != t.home && !t.trusted(host) {
		return nil, &guardError{
			fmt.Sprintf("the realm %s is not allowed to issue tokens for %q; if it may see that host's credentials, list it under realms", t.quote(host), t.host),
			"its token server is another host, which is not listed for it; if that may see the credentials, list it under realms (the log names it)",
		}
	}
	if u.Scheme != "https" && (u.Scheme != "http" || t.hop.URL.Scheme != "http" || !t.engine.hosts[host].PlainHTTP) {
		return nil, &guardError{"the realm " + t.quote(host) + " is not https", "its token server is not asked over https"}
	}
	if err := t.check(u); err != nil {
		return nil, err
	}
	return u, nil
}

// trusted reports whether a host is known, or listed, to issue tokens for the
// rule's.
func (t *trip) trusted(host string) bool { return t.listed(host) || issues(t.host, host) }

// issues is the table of token servers that registries are known to have at
// another host. It is short on purpose: a credential goes there.
func issues(host, realm string) bool {
	switch host {
	case ociname.DockerHub:
		return realm == "auth.docker.io"
	case "registry.gitlab.com":
		return realm == "gitlab.com"
	case "docker.elastic.co":
		return realm == "docker-auth.elastic.co"
	}
	return false
}

// minSecret is the length of the shortest secret that is looked for in texts: what
// is shorter stands in too many of them.
const minSecret = 4

// repeated stands in an error for a text that repeats a secret.
const repeated = "left out, since it repeats what was sent"

// quote is what an error shows of a text that an upstream wrote: what shorten leaves
// of it, and nothing of one that repeats what it was sent.
func (t *trip) quote(text string) string {
	if t.repeats(text) {
		return "(" + repeated + ")"
	}
	return shorten(text)
}

// repeats reports whether a text holds a secret of the rule's, or a token, as it is,
// as it stands in a URL, or as Basic authentication writes it. The case does not
// matter, since hosts and media types are read in lower case.
func (t *trip) repeats(text string) bool {
	text = strings.ToLower(text)
	holds := func(secret string) bool {
		return len(secret) >= minSecret && strings.Contains(text, strings.ToLower(secret))
	}
	c := t.rule.credential
	basic := base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password.Reveal()))
	if !c.Password.Empty() && holds(basic) {
		return true
	}
	secrets := append([]string{c.Password.Reveal(), c.RefreshToken.Reveal()}, t.sent...)
	return slices.ContainsFunc(secrets, func(secret string) bool {
		return holds(secret) || holds(url.QueryEscape(secret)) || holds(url.PathEscape(secret))
	})
}

// errRepeated takes the place of an error that repeats a secret.
var errRepeated = errors.New(repeated)

// discreet takes out of an error of a request the host and the cause if they are
// shown and repeat a secret: an upstream chooses the host that it leads to, and the
// names in the certificate there.
func (t *trip) discreet(err error) error {
	if _, ok := errors.AsType[*guardError](err); ok {
		return err // was made with quote
	}
	if token, ok := errors.AsType[*tokenError](err); ok {
		if !t.repeats(token.host) {
			return err
		}
		other := *token // others may hold the same error
		other.host = repeated
		return &other
	}
	u, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	at, bad := url.Parse(u.URL)
	if bad != nil || originOf(at) != t.home && t.repeats(at.Host) {
		u = &url.Error{Op: u.Op, Err: u.Err}
		err = u
	}
	if t.repeats(plain(u.Err).foreign) {
		err = &url.Error{Op: u.Op, URL: u.URL, Err: errRepeated}
	}
	return err
}
