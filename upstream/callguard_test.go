package upstream

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
)

// The guard stops a credential on its way to another origin, even if the session there
// had one by mistake.
func TestNoCredentialPassesTheGuardAbroad(t *testing.T) {
	g := testGuard("hub.example", nil)
	shown := http.Header{"Authorization": {"Basic dXNlcjpwYXNzd29yZA=="}}
	if err := g.checkShown(shown); err != nil {
		t.Errorf("at home: %v", err)
	}
	u := g.hop.URL
	for _, location := range []string{"https://cdn.example/x", "https://hub.example/v2/back"} {
		var err error
		if u, err = g.redirect(u, location); err != nil {
			t.Fatal(err)
		}
		if !g.leftHome {
			t.Errorf("at %s the call counts as one that never left home", location)
		}
		if g.checkShown(shown) == nil {
			t.Errorf("a credential goes to %s", location)
		}
		if err := g.checkShown(http.Header{}); err != nil {
			t.Errorf("nothing is shown at %s: %v", location, err)
		}
	}
}

func TestRedirectsToOtherSchemes(t *testing.T) {
	g := testGuard("hub.example", nil)
	for _, location := range []string{"ftp://cdn.example/x", "file://cdn.example/x", "ws://cdn.example/x", "gopher://cdn.example/x", "http://cdn.example/x"} {
		if to, err := g.redirect(g.hop.URL, location); err == nil {
			t.Errorf("%s leads to %s", location, to)
		}
	}
}

// A token server that may be asked over plain http may be so by a hop over plain http
// only.
func TestPlainRealmOfAnHTTPSHop(t *testing.T) {
	const realm = "http://tokens.example/token"
	for _, c := range []struct {
		hub, tokens bool // PlainHTTP
		ok          bool
	}{{true, true, true}, {true, false, false}, {false, true, false}, {false, false, false}} {
		g := testGuard("hub.example", map[string]Host{
			"hub.example":    {PlainHTTP: c.hub, Realms: []string{"tokens.example"}},
			"tokens.example": {PlainHTTP: c.tokens},
		})
		g.hop.URL = &url.URL{Scheme: g.policy.home.scheme, Host: "hub.example", Path: "/v2/"}
		if _, err := g.realm(realm); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func challengeOf(text string) *http.Response {
	return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody, Header: http.Header{"Www-Authenticate": {text}}}
}

// A refresh token of an Azure registry is good for the service of that registry only.
func TestServiceOfARefreshToken(t *testing.T) {
	const realm = `Bearer realm="https://team.azurecr.io/oauth2/token"`
	for text, ok := range map[string]bool{
		realm + `,service="team.azurecr.io"`: true, realm + `,service="TEAM.azurecr.io:443"`: true,
		realm + `,service="other.azurecr.io"`: false, realm: false,
	} {
		g := testGuard("team.azurecr.io", nil)
		g.startHop(g.hop, auth.Credential{RefreshToken: auth.NewSensitive("refresh")})
		if _, err := g.checkChallenge(challengeOf(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Only a registry may challenge away from home: a storage is shown its link and no token.
func TestChallengesAbroad(t *testing.T) {
	for path, ok := range map[string]bool{"/v2/a/blobs/x": true, "/bucket/x": false} {
		g := testGuard("hub.example", nil)
		to, err := g.redirect(g.hop.URL, "https://cdn.example"+path)
		if err != nil {
			t.Fatal(err)
		}
		g.startHop(httptest.NewRequest(http.MethodGet, to.String(), nil), auth.Credential{})
		resp, err := g.checkChallenge(challengeOf(`Bearer realm="https://cdn.example/token"`))
		if err != nil || (resp.Header.Get("Www-Authenticate") != "") != ok {
			t.Errorf("%s: %v, %v", path, resp, err)
		}
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// The transport checks by itself what it sends, whatever was checked before: a request
// without a guard, to a token server that may not see the credential, or to a hop that
// may not be asked.
func TestTheTransportChecksEveryRequest(t *testing.T) {
	var sent []string
	pool := &transportPool{replaced: roundTripFunc(func(req *http.Request) (*http.Response, error) {
		sent = append(sent, req.URL.String())
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{}, Request: req}, nil
	})}
	transport := &guardedTransport{sender: &sender{pool: pool}}
	send := func(g *callGuard, url string) error {
		req := httptest.NewRequest(http.MethodGet, url, nil)
		if g != nil {
			req = req.WithContext(withGuard(t.Context(), g))
		}
		resp, err := transport.RoundTrip(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	guarded := func(hop string) *callGuard {
		g := testGuard("hub.example", nil)
		g.startHop(httptest.NewRequest(http.MethodGet, hop, nil), g.credential)
		return g
	}
	const home, inside = "https://hub.example/v2/", "https://10.0.0.1/v2/"
	for _, c := range []struct {
		guard *callGuard
		url   string
		ok    bool
	}{
		{guarded(home), home, true}, {guarded(home), "https://hub.example/token", true},
		{nil, home, false}, {guarded(home), "https://evil.example/token", false}, {guarded(inside), inside, false},
	} {
		sent = nil
		if err := send(c.guard, c.url); (err == nil) != c.ok || len(sent) > 0 != c.ok {
			t.Errorf("%s: %v, sent %q", c.url, err, sent)
		}
	}
}

// What a token server says to which a redirect led is not about the rule's credential.
func TestRefusalsElsewhereAreNotTheCredentials(t *testing.T) {
	r := &requester{policy: newHostPolicy("hub.example", nil)}
	for _, status := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden} {
		for _, elsewhere := range []bool{true, false} {
			err := errors.Join(&tokenError{status: status, elsewhere: elsewhere})
			if _, refused := r.refusalOf(&session{}, nil, err); refused == elsewhere {
				t.Errorf("status %d, elsewhere %v: refused %v", status, elsewhere, refused)
			}
		}
	}
}
