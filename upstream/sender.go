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

// sender sends the requests that [guardedTransport] has checked. Between the two lies
// what [Client.WrapTransport] returned, so sender makes sure that they are still the
// same. It is safe for concurrent use, also by requests of one call.
type sender struct {
	pool          *transportPool
	answerTimeout time.Duration // limit for the header of a response; 0 if there is none
}

// RoundTrip sends a request that came from [withChecked].
func (s *sender) RoundTrip(req *http.Request) (*http.Response, error) {
	c, _ := req.Context().Value(checkedKey{}).(*checked)
	if c == nil {
		return nil, errNoGuard
	}
	if !c.same(req) {
		return nil, errRewritten
	}
	transport, proxy, err := s.pool.get(req, c.guard)
	if err != nil {
		return nil, err
	}
	if proxy != nil {
		req = req.WithContext(withProxy(req.Context(), proxy))
	}
	if !c.forToken {
		req = s.noteServer(req, c.guard, proxy != nil)
	}
	limit := s.answerTimeout
	if d := answerTimeoutOf(req.Context()); d > 0 {
		limit = d
	}
	if limit <= 0 {
		return transport.RoundTrip(req)
	}
	return roundTripWithin(transport, req, limit, s.pool.replaced != nil)
}

// noteServer has the guard note the depth of the server as soon as there is a
// connection to it. Behind a proxy, or a Transport of the embedder, only the URL tells
// something about that depth.
func (s *sender) noteServer(req *http.Request, g *callGuard, proxied bool) *http.Request {
	inURL := netdepth.OfHost(req.URL.Hostname())
	if proxied || s.pool.replaced != nil {
		g.noteServer(inURL, inURL, false)
		return req
	}
	direct := s.pool.dial == nil
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { g.noteServer(netdepth.OfRemote(c.Conn.RemoteAddr()), inURL, direct) },
	}))
}

// checked is what a request was when it was checked.
type checked struct {
	guard             *callGuard
	forToken          bool
	method, url, host string
	authorization     []string
}

type checkedKey struct{}

// withChecked returns req with a context that says what req is.
func withChecked(req *http.Request, g *callGuard, forToken bool) *http.Request {
	c := &checked{guard: g, forToken: forToken, method: req.Method, url: req.URL.String(), host: req.Host}
	c.authorization = slices.Clone(req.Header["Authorization"])
	return req.WithContext(context.WithValue(req.Context(), checkedKey{}, c))
}

// same reports whether req still goes where it did, and carries the same credential.
func (c *checked) same(req *http.Request) bool {
	return req.URL != nil && req.Method == c.method && req.URL.String() == c.url && req.Host == c.host &&
		slices.Equal(req.Header["Authorization"], c.authorization)
}
