package upstream

import (
	"net/http"
	"net/url"
)

// guardedTransport sends single requests. Every request of a [Client] passes it, those
// to token servers too, so that none is sent unchecked and oras-go never sees a
// challenge that was not checked before.
type guardedTransport struct {
	userAgent string
	sender    http.RoundTripper // a sender, in what Client.WrapTransport put around it
}

// RoundTrip sends a request that belongs to a call; see withGuard. A redirect is
// returned and not followed.
func (t *guardedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	g := guardOf(req.Context())
	if g == nil {
		return nil, errNoGuard
	}
	forToken := g.isForToken(req)
	if err := checkURL(g, req.URL, forToken); err != nil {
		return nil, err
	}
	out := t.withHeaders(req, forToken)
	if !forToken && g.noteToken(out.Header) {
		operationOf(req.Context()).retried()
	}
	if err := g.checkShown(out.Header); err != nil {
		return nil, err
	}
	resp, err := t.sender.RoundTrip(withChecked(out, g, forToken))
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
