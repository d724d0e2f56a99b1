package inbound

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/pullthrough/pullthrough/cache"
)

const (
	defaultPage = 1000
	maxPage     = 10000
)

// serveCatalog lists the repositories that a client may pull, if that is not all of them. It returns
// false if the cache should answer: with all of them, or with a refusal.
func (g *Gate) serveCatalog(w http.ResponseWriter, r *http.Request) bool {
	p := g.rights.Load()
	if p == nil || g.Repositories == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	a := cache.Access{Kind: cache.AccessCatalog, Actions: []string{cache.ActionAll}}
	id, err := g.identify(r, p)
	if err != nil {
		g.answer(w, r, a, g.refusal(r, a, err))
		return true
	}
	if len(id.pull) == 0 || id.pull.all() {
		return false
	}
	if id.subject == "" { // some clients log in only if they are asked, and would take this for all that there is
		g.answer(w, r, a, g.refusal(r, a, ErrNoCredentials))
		return true
	}
	if id.token != nil && !covers(id.token.Access, a) {
		g.answer(w, r, a, g.refusal(r, a, errScope))
		return true
	}
	if err := g.countUser(id); err != nil {
		g.answer(w, r, a, err)
		return true
	}
	select {
	case g.lists <- struct{}{}:
		defer func() { <-g.lists }()
	case <-r.Context().Done():
		return true
	}
	g.listReadable(w, r, a, id.pull)
	return true
}

// listReadable writes a page of the repositories that match patterns.
func (g *Gate) listReadable(w http.ResponseWriter, r *http.Request, a cache.Access, pull Patterns) {
	query := r.URL.Query()
	most := defaultPage
	if text := query.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			g.answer(w, r, a, badToken("n is not a number"))
			return
		}
		most = min(n, maxPage)
	}
	names, more := []string{}, false
	for name, err := range g.Repositories(r.Context(), query.Get("last")) {
		if err != nil {
			g.answer(w, r, a, &cache.Error{Status: http.StatusInternalServerError, Code: cache.CodeUnknown, Message: "the repositories could not be listed", Err: err})
			return
		}
		if !pull.Match(name) {
			continue
		}
		if more = len(names) == most; more {
			break
		}
		names = append(names, name)
	}
	if more && most > 0 {
		next := url.Values{"n": {strconv.Itoa(most)}, "last": {names[most-1]}}
		w.Header().Set("Link", `</v2/_catalog?`+next.Encode()+`>; rel="next"`)
	}
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	n := writeJSON(w, r, http.StatusOK, map[string][]string{"repositories": names})
	g.observe(r, a, http.StatusOK, n, nil)
}
