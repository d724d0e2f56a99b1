package upstream

import (
	"context"
	"maps"
	"net/http"
	"net/url"
)

// maxRedirects is how many redirects a call follows.
const maxRedirects = 10

// follow sends a request for u in the session s of the rule, and follows redirects.
// The credential of s is shown only at home, and no more once a redirect has left it:
// from then on each origin has an anonymous session of its own.
func (r *requester) follow(ctx context.Context, c call, u *url.URL, s *session) (*http.Response, error) {
	g := newCallGuard(r.policy, s.credential)
	g.abort = c.abort
	ctx = withGuard(ctx, g)
	scope := r.scope
	for redirects := 0; ; redirects++ {
		req, err := http.NewRequestWithContext(ctx, c.method, "", nil)
		if err != nil {
			return nil, errAddress
		}
		req.URL, req.Host = u, u.Host
		maps.Copy(req.Header, c.header)
		g.startHop(req, s.credential)
		resp, err := s.do(req, g, scope)
		if err != nil {
			return nil, g.echoes.clean(err)
		}
		if !g.leftHome {
			noteRateLimit(ctx, resp.Header, r.source.Host, s.account, g.echoes.repeats)
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
			// There it is for the challenge to say what a token must be good for.
			s, scope = r.sessions.elsewhere(r.source, originOf(u)), ""
		}
	}
}
