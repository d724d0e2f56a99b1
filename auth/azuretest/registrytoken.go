package azuretest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const errUnauthorized = "authentication required"

// exchange issues a refresh token of this registry for an Entra token.
func (r *Registry) exchange(w http.ResponseWriter, q *http.Request) {
	a, form := r.azure, q.PostForm
	if q.Method != http.MethodPost || form == nil {
		a.complain("%s: the exchange wants a POST of a form; it got %s %q", r.loginServer, q.Method, q.Header.Get("Content-Type"))
		fail(w, http.StatusBadRequest, "UNSUPPORTED", "bad request")
		return
	}
	if form.Get("grant_type") != "access_token" || form.Get("service") != r.loginServer || !only(form, "grant_type", "service", "tenant", "access_token") || len(q.URL.Query()) > 0 && q.URL.Query().Get("api-version") == "" {
		a.complain("%s: the exchange got grant_type %q, service %q and the fields %v", r.loginServer, form.Get("grant_type"), form.Get("service"), names(form))
	}
	c, ok := a.read(form.Get("access_token"), "entra")
	if ok && c.Audience != registryResource {
		a.complain("%s: the exchange got a token for the audience %s", r.loginServer, c.Audience)
	}
	if tenant := form.Get("tenant"); ok && tenant != "" && tenant != c.Tenant {
		a.complain("%s: the exchange got the tenant %s", r.loginServer, tenant)
	}
	if !ok || c.Audience != registryResource || c.Tenant != r.tenant || !a.unrevoked(c) {
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", errUnauthorized)
		return
	}
	r.azure.mu.Lock()
	epoch := r.epoch
	r.azure.mu.Unlock()
	token := a.issue(claims{Use: "refresh", Audience: r.loginServer, Tenant: c.Tenant, Object: c.Object, Epoch: epoch}, a.lifetime("refresh"))
	a.secret("refresh token", token, sentTo(r.loginServer, Token))
	answer(w, http.StatusOK, map[string]string{"refresh_token": token})
}

// token issues access tokens for refresh tokens and for passwords.
func (r *Registry) token(w http.ResponseWriter, q *http.Request) {
	form := q.URL.Query()
	if q.Method == http.MethodPost {
		form = q.PostForm
	}
	if form.Get("service") != r.loginServer {
		r.azure.complain("%s: the token server was asked for the service %q", r.loginServer, form.Get("service"))
	}
	principal, ok := r.principal(q, form)
	if !ok {
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", errUnauthorized)
		return
	}
	var asked []string
	for _, scope := range strings.Fields(strings.Join(form["scope"], " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		i := strings.LastIndexByte(rest, ':')
		if kind != "repository" || i < 0 || rest[i+1:] != "pull" {
			r.azure.complain("%s: the token server was asked for the scope %q, which no pull needs", r.loginServer, scope)
			continue
		}
		asked = append(asked, rest[:i])
	}
	granted := r.granted(principal, asked)
	r.azure.mu.Lock()
	epoch, refuse := r.epoch, r.refuse && len(granted) < len(asked)
	r.azure.mu.Unlock()
	if refuse {
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", errUnauthorized)
		return
	}
	token := r.azure.issue(claims{Use: "access", Audience: r.loginServer, Object: principal, Scopes: granted, Epoch: epoch}, r.azure.lifetime("access"))
	r.azure.secret("access token", token, sentTo(r.loginServer, V2))
	answer(w, http.StatusOK, map[string]string{"access_token": token})
}

// principal returns the principal that requests a token, if its credential is valid.
func (r *Registry) principal(q *http.Request, form url.Values) (string, bool) {
	if user, password, ok := q.BasicAuth(); ok {
		return r.login(user, password)
	}
	switch form.Get("grant_type") {
	case "refresh_token":
		c, ok := r.azure.read(form.Get("refresh_token"), "refresh")
		r.azure.mu.Lock()
		defer r.azure.mu.Unlock()
		return c.Object, ok && c.Audience == r.loginServer && c.Epoch == r.epoch
	case "password":
		return r.login(form.Get("username"), form.Get("password"))
	}
	return "", false
}

// only reports whether a form has no other fields than known.
func only(form url.Values, known ...string) bool {
	return !slices.ContainsFunc(names(form), func(k string) bool { return !slices.Contains(known, k) })
}

func names(form url.Values) []string { return slices.Sorted(maps.Keys(form)) }
