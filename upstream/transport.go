package upstream

import (
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/url"

	"github.com/pullthrough/pullthrough/internal/netdepth"
)

// guardedTransport sends single requests. Every request of a [Client] passes it, those
// to token servers too, so that none is sent unchecked and oras-go never sees a
// challenge that was not checked before.
type guardedTransport struct {
	userAgent string
	pool      *transportPool
}

// RoundTrip sends a request that belongs to a call; see withGuard. A redirect is
// returned and not followed.
func (t *guardedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	g := guardOf(req.Context())
	if g == nil {
		return nil, errors.New("upstream: a request without a guard")
	}
	forToken := g.isForToken(req)
	if err := checkURL(g, req.URL, forToken); err != nil {
		return nil, err
	}
	out := t.withHeaders(req, forToken)
	if !forToken {
		g.noteToken(out.Header)
	}
	if err := g.checkShown(out.Header); err != nil {
		return nil, err
	}
	transport, proxy, err := t.pool.get(out, g)
	if err != nil {
		return nil, err
	}
	if proxy != nil {
		out = out.WithContext(withProxy(out.Context(), proxy))
	}
	if !forToken {
		out = t.noteServer(out, g, proxy != nil)
	}
	resp, err := transport.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	if forToken {
		return checkTokenResponse(resp, g.leftHome)
	}
	return checkResponse(g, resp)
}

// checkURL checks the address of a request as that of a token server or of a hop.
func checkURL(g *callGuard, u *url.URL, forToken bool) error {
	if forToken {
		_, err := g.realm(u.String())
		return err
	}
	return g.check(u)
}

// withHeaders returns a copy of req with the headers that all requests carry.
func (t *guardedTransport) withHeaders(req *http.Request, forToken bool) *http.Request {
	out := req.Clone(req.Context())
	out.Header.Set("User-Agent", t.userAgent)
	out.Header.Set("Accept-Encoding", "identity")
	if forToken {
		out.Header.Set("Accept", "application/json")
	}
	if loop := Loop(req.Context()); loop != "" {
		out.Header.Set("CDN-Loop", loop)
	}
	return out
}

// noteServer has the guard note the depth of the server as soon as there is a
// connection to it. Behind a proxy, or a Transport of the embedder, only the URL tells
// something about that depth.
func (t *guardedTransport) noteServer(req *http.Request, g *callGuard, proxied bool) *http.Request {
	inURL := netdepth.OfHost(req.URL.Hostname())
	if proxied || t.pool.replaced != nil {
		g.noteServer(inURL, inURL, false)
		return req
	}
	direct := t.pool.dial == nil
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { g.noteServer(netdepth.OfRemote(c.Conn.RemoteAddr()), inURL, direct) },
	}))
}

// checkResponse checks what net/http and oras-go would act upon in the response to a
// hop: where it redirects, and its challenge.
func checkResponse(g *callGuard, resp *http.Response) (*http.Response, error) {
	switch {
	case isRedirect(resp.StatusCode):
		// net/http parses Location itself, and its error would quote it.
		if _, err := url.Parse(resp.Header.Get("Location")); err != nil {
			_ = resp.Body.Close()
			return nil, errAddress
		}
	case resp.StatusCode == http.StatusUnauthorized && g.credential.AccessToken.Empty():
		return g.checkChallenge(resp)
	}
	return resp, nil
}

// isRedirect reports whether a status is one whose Location is to be followed.
func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}
