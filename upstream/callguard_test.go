package upstream

import (
	"net/http"
	"net/url"
	"testing"
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
