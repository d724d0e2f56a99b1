package upstream

import (
	"context"
	"net/http"
	"net/url"

	orasauth "oras.land/oras-go/v2/registry/remote/auth"
)

// maxRedirects is how many redirects a call follows.
const maxRedirects = 10

// follow sends a request for u in the session s of the rule, and follows redirects.
// The credential of s is shown only at home, and no more once a redirect has left it:
// from then on each origin has an anonymous session of its own.
func (r *requester) follow(ctx context.Context, c call, u *url.URL, s *session) (*http.Response, error) {
	g := newCallGuard(r.policy, s.credential)
	ctx = withGuard(ctx, g)
	ctx = orasauth.WithScopesForHost(ctx, r.policy.home.host, orasauth.ScopeRepository(r.source.Repository, orasauth.ActionPull))
	for redirects := 0; ; redirects++ {
		req, err := http.NewRequestWithContext(ctx, c.method, u.String(), nil)
		if err != nil {
			return nil, errAddress
		}
		for k, v := range c.header {
			req.Header[k] = v
		}
		g.startHop(req, s.credential)
		resp, err := s.do(req)
		if err != nil {
			return nil, g.echoes.clean(err)
		}
		location := resp.Header.Get("Location")
		if !isRedirect(resp.StatusCode) || location == "" || staysHome(ctx) {
			return resp, nil
		}
		_ = resp.Body.Close()
		if redirects == maxRedirects {
			return nil, &guardError{"too many redirects", "it redirects too often"}
		}
		if u, err = g.redirect(u, location); err != nil {
			return nil, err
		}
		if g.leftHome {
			s = r.sessions.elsewhere(r.source, originOf(u))
		}
	}
}
