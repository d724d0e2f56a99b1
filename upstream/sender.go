package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/internal/netdepth"
)

var (
	errNoGuard    = errors.New("upstream: a request without a guard")
	errNoResponse = errors.New("upstream: a transport without a response")

	// errRewritten reports a request that Client.WrapTransport made another one of.
	errRewritten = errors.New("the wrapper of the transport changed the method, the address or the credential of a request")
)

// sender sends the requests that [guardedTransport] has checked. What
// [Client.WrapTransport] returned may lie between the two, so requests that come from
// there must still be the same. It is safe for concurrent use, also by requests of one
// call.
type sender struct {
	pool          *transportPool
	answerTimeout time.Duration // limit for the header of a response; 0 if there is none
}

// RoundTrip sends a request that came from [withChecked], through a wrapper.
func (s *sender) RoundTrip(req *http.Request) (*http.Response, error) {
	c, _ := req.Context().Value(checkedKey{}).(*checked)
	if c == nil {
		return nil, errNoGuard
	}
	if !c.same(req) {
		return nil, errRewritten
	}
	return s.exchange(req, c.guard, c.forToken, nil) // the wrapper may send it again if it fails
}

// send sends a request of the call that g guards, which fails if the request does.
func (s *sender) send(req *http.Request, g *callGuard, forToken bool) (*http.Response, error) {
	if forToken {
		return s.exchange(req, g, forToken, nil) // other calls wait for it too
	}
	return s.exchange(req, g, forToken, g.abort)
}

// exchange sends a request. If its time is up before the header of the response has come,
// abort is called; if that is nil, the request ends alone.
func (s *sender) exchange(req *http.Request, g *callGuard, forToken bool, abort context.CancelCauseFunc) (*http.Response, error) {
	transport, proxy, err := s.pool.get(req, g, forToken)
	if err != nil {
		return nil, err
	}
	ctx, foreign := req.Context(), s.pool.replaced != nil
	if proxy != nil {
		ctx = withProxy(ctx, proxy)
	}
	var trace httptrace.ClientTrace
	if !forToken {
		s.noteServer(&trace, req, g, foreign || proxy != nil)
	}
	if foreign { // it gets a request of its own, as what is wrapped around a sender does
		req = req.Clone(ctx)
	}
	limit := answerLimit{s.answerTimeout, foreign, abort}
	if d := answerTimeoutOf(ctx); d > 0 {
		limit.Duration = d
	}
	if limit.Duration <= 0 || endsWithin(ctx, limit.Duration) {
		return transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &trace)))
	}
	return limit.roundTrip(ctx, transport, req, &trace)
}

// noteServer has the guard note the depth of the server as soon as there is a
// connection to it, of which trace is told. Behind a proxy, or a Transport of the
// embedder, only the URL tells something about that depth.
func (s *sender) noteServer(trace *httptrace.ClientTrace, req *http.Request, g *callGuard, urlOnly bool) {
	inURL := netdepth.OfHost(req.URL.Hostname())
	if urlOnly {
		g.noteServer(inURL, inURL, false)
		return
	}
	direct := s.pool.dial == nil
	trace.GotConn = func(c httptrace.GotConnInfo) { g.noteServer(netdepth.OfRemote(c.Conn.RemoteAddr()), inURL, direct) }
}

// checked is what a request was when it was checked.
type checked struct {
	guard             *callGuard
	forToken          bool
	method, url, host string
	authorization     []string
}

type checkedKey struct{}

// withChecked returns a copy of req, which a wrapper may change, with a context that says
// what req is.
func withChecked(req *http.Request, g *callGuard, forToken bool) *http.Request {
	c := &checked{guard: g, forToken: forToken, method: req.Method, url: req.URL.String(), host: req.Host}
	c.authorization = slices.Clone(req.Header["Authorization"])
	return req.Clone(context.WithValue(req.Context(), checkedKey{}, c))
}

// same reports whether req still goes where it did, and carries the same credential.
func (c *checked) same(req *http.Request) bool {
	return req.URL != nil && req.Method == c.method && req.URL.String() == c.url && req.Host == c.host &&
		slices.Equal(req.Header["Authorization"], c.authorization)
}
