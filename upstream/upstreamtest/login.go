package upstreamtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// RequireLogin makes the registry ask for a bearer token of its own token
// server, which knows these users; the user "" with the password "" is
// anonymous. granted says who may pull what; nil: everyone everything.
func (r *Registry) RequireLogin(users map[string]string, granted func(user, repository string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users, r.granted, r.issuer, r.basic = users, granted, r, false
}

// RequireLoginAt is RequireLogin with the token server of another registry,
// which is told the users.
func (r *Registry) RequireLoginAt(issuer *Registry, users map[string]string, granted func(user, repository string) bool) {
	issuer.RequireLogin(users, granted)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users, r.issuer, r.basic = users, issuer, false
}

// RequireBasic makes the registry ask for user and password themselves.
func (r *Registry) RequireBasic(users map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users, r.basic = users, true
}

// SetRefreshTokens says for which refresh tokens the token server gives access
// tokens (POST, grant_type=refresh_token), and in whose name.
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

// Complaints returns what clients did that no client may do. With a testing.TB
// each has failed the test already.
func (r *Registry) Complaints() []string { return r.complaints.All() }

// grants is what a token server knows of a token: 0 nothing, 1 that it is its
// own, 2 that it is good for the repository.
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

// allowed asks for a token or password if the registry has users.
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

// token is the token server.
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

// user finds who asks for a token.
func (r *Registry) user(req *http.Request) (string, bool) {
	if req.Method == http.MethodPost {
		user, ok := r.refresh[req.PostForm.Get("refresh_token")]
		return user, ok && req.PostForm.Get("grant_type") == "refresh_token"
	}
	user, password, _ := req.BasicAuth()
	want, ok := r.users[user]
	return user, ok && want == password
}
