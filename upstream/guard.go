package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/netdepth"
	"github.com/pullthrough/pullthrough/internal/ociname"
)

// callGuard guards one call, which is every request that is sent for it: its hops (the
// first request, and one more for each redirect), and the requests to token servers in
// between. It decides to which addresses they may go and what they may show there.
//
// Each server that responded has had a part in where the next request goes. The guard
// tracks the least deep of them (public < private < loopback): neither a redirect nor a
// challenge may lead deeper than that.
//
// Only the depths may be used concurrently: all else changes between two requests.
type callGuard struct {
	policy *hostPolicy
	echoes echoFilter
	abort  context.CancelCauseFunc // ends the context of the call; nil if the caller limits that

	hop        *http.Request   // under way, as it was before a credential was added
	credential auth.Credential // that the hop may show: the rule's at home, elsewhere none
	token      string          // that the hop carried when it was last sent, or empty
	shown      bool            // the hop showed a token or a credential when it was last sent
	leftHome   bool            // a redirect led away from home; there is no way back
	refusal    *http.Response  // that holds a challenge which oras-go is about to meet
	room       [1]string       // for the token that most calls show, in echoes

	responded depthRecord // of the servers that responded, by the remote address of their connections
	vouched   depthRecord // the same servers, as far as they may vouch for an address in a URL; see noteServer
}

// newCallGuard returns the guard of a call with the credential c of the rule.
func newCallGuard(p *hostPolicy, c auth.Credential) *callGuard {
	g := &callGuard{policy: p, echoes: echoFilter{home: p.home, credential: c}}
	g.echoes.tokens = g.room[:0]
	return g
}

type guardKey struct{}

// withGuard returns a context whose requests belong to the call that g guards.
func withGuard(ctx context.Context, g *callGuard) context.Context {
	return context.WithValue(ctx, guardKey{}, g)
}

// guardOf returns the guard of the call that ctx belongs to, or nil.
func guardOf(ctx context.Context) *callGuard {
	g, _ := ctx.Value(guardKey{}).(*callGuard)
	return g
}

// startHop notes the hop that is sent next and the credential that it may show.
func (g *callGuard) startHop(req *http.Request, c auth.Credential) {
	g.hop, g.credential, g.shown = req, c, false
}

// isForToken reports whether req goes to a token server, which every request does that
// is not the hop under way.
func (g *callGuard) isForToken(req *http.Request) bool {
	return req.Method != g.hop.Method || req.URL.String() != g.hop.URL.String()
}

// takeRefusal returns the refusal of the hop, once, for the request by which oras-go
// begins to meet its challenge, so that the hop is not sent twice. It returns nil if
// that request carries something else than the one that was refused: a token that was
// earned since is worth being shown.
func (g *callGuard) takeRefusal(req *http.Request, forToken bool) *http.Response {
	resp := g.refusal
	if resp == nil {
		return nil
	}
	g.refusal = nil
	token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if forToken || token != g.token {
		discard(resp)
		return nil
	}
	resp.Request = req
	return resp
}

// noteToken notes the token that the hop is about to carry, if it has one. It reports
// whether the hop is sent again although it showed something.
func (g *callGuard) noteToken(h http.Header) (again bool) {
	again, g.shown = g.shown, h.Get("Authorization") != ""
	g.token, _ = strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	if g.token != "" && !slices.Contains(g.echoes.tokens, g.token) {
		g.echoes.tokens = append(g.echoes.tokens, g.token)
	}
	return again
}

// depthRecord holds the least of the depths that it was given. Its zero value was given
// none.
type depthRecord struct{ next atomic.Int32 } // the depth + 1, or 0 if there is none

// note takes d into account. An unknown depth counts as public.
func (r *depthRecord) note(d netdepth.Depth) {
	next := int32(max(d, netdepth.Public)) + 1
	if have := r.next.Load(); have == 0 || next < have {
		r.next.Store(next)
	}
}

// least returns the least depth, or unknown if there is none.
func (r *depthRecord) least() netdepth.Depth { return netdepth.Depth(r.next.Load() - 1) }

// noteServer notes the depth of a server that is about to respond: by the remote
// address of its connection, and by the host in the URL. direct says that the
// connection is known to end at that server. If it is not, it may end at a tunnel,
// often on loopback: its remote address then limits later connections, but never
// permits an address that is written in a URL.
func (g *callGuard) noteServer(remote, inURL netdepth.Depth, direct bool) {
	g.responded.note(remote)
	if direct {
		inURL = remote
	}
	g.vouched.note(inURL)
}

// dialLimit returns the greatest depth that may be dialled for u.
func (g *callGuard) dialLimit(u *url.URL) netdepth.Depth {
	return g.policy.limit(u, g.responded.least())
}

// check refuses a URL to which no request may be sent. A name in it is checked again
// when it is dialled.
func (g *callGuard) check(u *url.URL) error {
	if err := checkReadable(u); err != nil {
		return err
	}
	what := func() string { return "the host " + g.echoes.quote(u.Hostname()) }
	return checkDepth(netdepth.OfHost(u.Hostname()), g.policy.limit(u, g.vouched.least()), what)
}

// checkDepth refuses a depth beyond limit. what names, in the error, that which has it.
func checkDepth(d, limit netdepth.Depth, what func() string) error {
	if d == netdepth.Forbidden || d > limit {
		return &guardError{fmt.Sprintf("%s is %s, where this upstream may not lead", what(), d), "it leads to an address where it may not lead"}
	}
	return nil
}

// checkReadable refuses a URL that net/http, a proxy or a resolver may read in another
// way than the guard does.
func checkReadable(u *url.URL) error {
	if u.User != nil {
		return &guardError{"the upstream leads to an address with a password in it", "it leads to an address that cannot be used"}
	}
	if !ociname.ValidURLHost(u.Host) {
		return errAddress
	}
	return nil
}

// redirect returns the URL to which a redirect leads, where location is its Location
// and from the URL that was requested. It notes whether the call leaves home.
func (g *callGuard) redirect(from *url.URL, location string) (*url.URL, error) {
	to, err := url.Parse(location)
	if err != nil {
		return nil, errAddress
	}
	if !to.IsAbs() {
		to = from.ResolveReference(to)
	}
	to.Fragment, to.RawFragment = "", ""
	if to, err = url.Parse(to.String()); err != nil { // as it will be read when it is sent
		return nil, errAddress
	}
	keepHTTPS(to, from)
	switch {
	case to.Scheme == "https":
	case to.Scheme == "http" && from.Scheme == "http":
	case to.Scheme == "http":
		return nil, &guardError{"a redirect leads from https to http at the host " + g.echoes.quote(to.Hostname()),
			"it redirects from https to http: the registry, or the proxy in front of it, must be told its public https address"}
	default:
		return nil, &guardError{"a redirect leads to something that is not http", "it leads to an address that cannot be used"}
	}
	if err := g.check(to); err != nil {
		return nil, err
	}
	if !g.policy.isHome(to) {
		g.leftHome = true
	}
	return to, nil
}

// keepHTTPS makes to https if it is the server of from, which was asked over https. A
// server behind a TLS proxy writes its own address as http, since it does not know how
// clients reach it.
func keepHTTPS(to, from *url.URL) {
	same := strings.EqualFold(to.Hostname(), from.Hostname()) && (to.Port() == "" || to.Port() == "80" || to.Port() == from.Port())
	if to.Scheme == "http" && from.Scheme == "https" && same {
		to.Scheme, to.Host = from.Scheme, from.Host
	}
}
