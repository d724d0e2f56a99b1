package upstream

import (
	"net/http"
	"net/url"
)

// identity is the Accept-Encoding of all requests: the bytes of the content itself.
var identity = []string{"identity"}

// guardedTransport sends single requests. Every request of a [Client] passes it, those
// to token servers too, so that none is sent unchecked and oras-go never sees a
// challenge that was not checked before.
type guardedTransport struct {
	userAgent []string // does not change
	sender    *sender
	wrapped   http.RoundTripper // what Client.WrapTransport put around sender; if nil, nothing
}

// RoundTrip sends a request of oras-go's that belongs to a call; see withGuard. A
// redirect is returned and not followed. The hop's refusal, which led to oras-go, is
// what its first request results in.
func (t *guardedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	g := guardOf(req.Context())
	if g == nil {
		return nil, errNoGuard
	}
	forToken := g.isForToken(req)
	if resp := g.takeRefusal(req, forToken); resp != nil {
		return resp, nil
	}
	resp, err := t.send(req.Clone(req.Context()), g, forToken)
	if err != nil {
		return nil, err
	}
	resp.Request = req
	return resp, nil
}

// send sends a request of the call that g guards: a hop, or one for a token. It adds the
// headers that all requests carry.
func (t *guardedTransport) send(req *http.Request, g *callGuard, forToken bool) (*http.Response, error) {
	if err := checkURL(g, req.URL, forToken); err != nil {
		return nil, err
	}
	t.setHeaders(req, forToken)
	if !forToken && g.noteToken(req.Header) {
		operationOf(req.Context()).retried()
	}
	if err := g.checkShown(req.Header); err != nil {
		return nil, err
	}
	resp, err := t.pass(req, g, forToken)
	switch {
	case err != nil:
		return nil, err
	case resp == nil:
		return nil, errNoResponse
	}
	// What a replaced or wrapped transport left out, or made up.
	if resp.Request = req; resp.Body == nil {
		resp.Body = http.NoBody
	}
	if forToken {
		return checkTokenResponse(resp, g.leftHome)
	}
	return checkResponse(g, resp)
}

// pass passes a request on to the sender, through what is wrapped around that.
func (t *guardedTransport) pass(req *http.Request, g *callGuard, forToken bool) (*http.Response, error) {
	if t.wrapped == nil {
		return t.sender.send(req, g, forToken)
	}
	return t.wrapped.RoundTrip(withChecked(req, g, forToken))
}

// checkURL checks the address of a request as that of a token server or of a hop.
func checkURL(g *callGuard, u *url.URL, forToken bool) error {
	if forToken {
		_, err := g.realm(u.String())
		return err
	}
	return g.check(u)
}

// setHeaders sets the headers that all requests carry.
func (t *guardedTransport) setHeaders(req *http.Request, forToken bool) {
	req.Header["User-Agent"] = t.userAgent
	req.Header["Accept-Encoding"] = identity
	if forToken {
		req.Header.Set("Accept", "application/json")
	}
	if loop := Loop(req.Context()); loop != "" {
		req.Header["Cdn-Loop"] = []string{loop}
	}
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
