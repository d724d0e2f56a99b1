package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

// realm checks the address of a token server, which a challenge calls its realm. If the
// hop has a credential to show there, the token server must be at home, or be known or
// listed for the rule's host; if it has none, any host will do that the rules for
// addresses allow. The address must be https, unless both the hop and the entry of the
// token server are plain http.
func (g *callGuard) realm(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() || u.Host == "" {
		return nil, &guardError{"the realm of the challenge cannot be read", "the address of its token server cannot be used"}
	}
	if err := checkReadable(u); err != nil {
		return nil, err
	}
	u.Fragment, u.RawFragment = "", ""
	host := hostOf(u)
	if !g.credential.Anonymous() && !g.policy.isHome(u) && !g.policy.mayIssueTokens(host) {
		return nil, &guardError{
			fmt.Sprintf("the realm %s is not allowed to issue tokens for %q; if it may see that host's credentials, list it under realms", g.echoes.quote(host), g.policy.host),
			"its token server is another host, which is not listed for it; if that may see the credentials, list it under realms (the log names it)",
		}
	}
	if u.Scheme != "https" && (u.Scheme != "http" || g.hop.URL.Scheme != "http" || !g.policy.hosts[host].PlainHTTP) {
		return nil, &guardError{"the realm " + g.echoes.quote(host) + " is not https", "its token server is not asked over https"}
	}
	if err := g.check(u); err != nil {
		return nil, err
	}
	return u, nil
}

// checkChallenge checks the challenge of a 401 and replaces it by one in the guard's
// own spelling, so that oras-go cannot read another realm out of it than the one that
// was checked. A response whose challenge must not be met is returned without one.
func (g *callGuard) checkChallenge(resp *http.Response) (*http.Response, error) {
	offers := parseChallenges(resp.Header.Values("Www-Authenticate"))
	resp.Header.Del("Www-Authenticate")
	if g.leftHome && !strings.HasPrefix(g.hop.URL.Path, "/v2/") {
		return resp, nil // a storage and no registry: all that it may see is in the link
	}
	for _, c := range offers {
		if c.scheme != "bearer" || c.params["realm"] == "" {
			continue
		}
		text, err := g.bearerChallenge(c)
		switch {
		case err == nil:
			resp.Header.Set("Www-Authenticate", text)
		case !g.leftHome:
			_ = resp.Body.Close()
			return nil, err
		}
		// Away from home a challenge that cannot be met is the same as none: the
		// refusal itself is then the result.
		return resp, nil
	}
	for _, c := range offers {
		if c.scheme == "basic" && g.hasPassword() {
			resp.Header.Set("Www-Authenticate", "Basic")
		}
	}
	return resp, nil
}

// bearerChallenge checks a challenge for a token and returns it in the guard's own
// spelling.
func (g *callGuard) bearerChallenge(c challenge) (string, error) {
	realm, err := g.realm(c.params["realm"])
	if err != nil {
		return "", err
	}
	if !g.credential.RefreshToken.Empty() && g.policy.namesItself() && ociname.FoldHost(c.params["service"]) != g.policy.host {
		return "", &guardError{fmt.Sprintf("the challenge names another service than %q", g.policy.host), "its challenge names another service"}
	}
	text := `Bearer realm="` + strings.ReplaceAll(realm.String(), `"`, "%22") + `"`
	for _, key := range []string{"service", "scope"} {
		if value := c.params[key]; value != "" && quotable(value) {
			text += "," + key + `="` + value + `"`
		}
	}
	return text, nil
}

// hasPassword reports whether the hop can prove itself by Basic authentication.
func (g *callGuard) hasPassword() bool {
	return g.credential.Username != "" && !g.credential.Password.Empty()
}

// errCredentialAbroad reports a credential in a request to another origin than home.
// It would be a bug of this package, which the guard stops.
var errCredentialAbroad = errors.New("upstream: a credential on its way to another origin")

// checkShown refuses a request that would show a credential away from home. An
// anonymous token that was earned there may be shown.
func (g *callGuard) checkShown(h http.Header) error {
	if g.leftHome && !g.credential.Anonymous() && h.Get("Authorization") != "" {
		return errCredentialAbroad
	}
	return nil
}
