package upstreamtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// RequireLogin makes the registry demand a bearer token of its own token server, which has
// these users and their passwords; the user "" with the password "" is the anonymous one.
// granted reports whether a user may pull from a repository. If nil, all users may pull
// from all repositories.
func (r *Registry) RequireLogin(users map[string]string, granted func(user, repository string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users, r.granted, r.issuer, r.basic = users, granted, r, false
}

// RequireLoginAt is RequireLogin with the token server of another registry, which gets the
// users.
func (r *Registry) RequireLoginAt(issuer *Registry, users map[string]string, granted func(user, repository string) bool) {
	issuer.RequireLogin(users, granted)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users, r.issuer, r.basic = users, issuer, false
}

// RequireBasic makes the registry demand a user name and password by Basic authentication.
func (r *Registry) RequireBasic(users map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users, r.basic = users, true
}

// SetRefreshTokens sets the refresh tokens for which the token server issues access tokens
// (POST, grant_type=refresh_token), and the user of each.
func (r *Registry) SetRefreshTokens(users map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh = users
}

// ForgetTokens makes all tokens that were issued invalid, as when they expire.
func (r *Registry) ForgetTokens() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens = map[string]bool{}
}

// Complaints returns the mistakes of clients. With a testing.TB each has failed the test
// already.
func (r *Registry) Complaints() []string { return r.complaints.All() }

// grants returns what a token allows: 2 to pull from the repository, 1 nothing though the
// token server issued it, and 0 nothing since it did not.
func (r *Registry) grants(token, repository string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case token == "":
		return 0
	case r.tokens[token+"\x00"+repository]:
		return 2
	case r.tokens[token+"\x00"]:
		return 1
	}
	return 0
}

// allowed reports whether a request has a sufficient credential, and responds with an error
// if not. A registry without users needs none.
func (r *Registry) allowed(w http.ResponseWriter, req *http.Request, q Request) bool {
	r.mu.Lock()
	users, issuer, basic := r.users, r.issuer, r.basic
	r.mu.Unlock()
	if users == nil {
		return true
	}
	if basic {
		user, password, _ := req.BasicAuth()
		if want, ok := users[user]; ok && want == password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="upstreamtest"`)
		fail(w, q.Kind, http.StatusUnauthorized, "")
		return false
	}
	token, _ := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	switch issuer.grants(token, q.Repository) {
	case 2:
		return true
	case 1:
		fail(w, q.Kind, http.StatusForbidden, "")
		return false
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service=%q,scope="repository:%s:pull"`, issuer.URL(), r.Host(), q.Repository))
	fail(w, q.Kind, http.StatusUnauthorized, "")
	return false
}

// token serves the token server.
func (r *Registry) token(w http.ResponseWriter, req *http.Request) {
	_ = req.ParseForm()
	r.mu.Lock()
	defer r.mu.Unlock()
	user, ok := r.user(req)
	if !ok {
		fail(w, "token", http.StatusUnauthorized, "")
		return
	}
	r.issued++
	token := fmt.Sprintf("token-%s-%d", user, r.issued)
	r.tokens[token+"\x00"] = true
	for _, scope := range strings.Fields(strings.Join(req.Form["scope"], " ")) {
		repository := strings.TrimSuffix(strings.TrimPrefix(scope, "repository:"), ":pull")
		if r.granted == nil || r.granted(user, repository) {
			r.tokens[token+"\x00"+repository] = true
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token, "access_token": token})
}

// user returns the user that requests a token, if the credential is valid.
func (r *Registry) user(req *http.Request) (string, bool) {
	if req.Method == http.MethodPost {
		user, ok := r.refresh[req.PostForm.Get("refresh_token")]
		return user, ok && req.PostForm.Get("grant_type") == "refresh_token"
	}
	user, password, _ := req.BasicAuth()
	want, ok := r.users[user]
	return user, ok && want == password
}
