package upstreamtest

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// budget is how many manifests each account may pull.
type budget struct {
	limit  int
	window time.Duration
	pulls  map[string][]time.Time // by user; that of all who have none is ""
}

// LimitPulls lets each user, and all clients without a user together, pull so many
// manifests within window, as Docker Hub does: each response to a request for a manifest
// says how many are left, a HEAD is no pull, and further pulls get 429. If limit is
// negative, pulls are not limited any more.
func (r *Registry) LimitPulls(limit int, window time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.budget = nil
	if limit >= 0 {
		r.budget = &budget{limit: limit, window: window, pulls: map[string][]time.Time{}}
	}
}

// spend counts a request for a manifest. It responds with 429 and returns false if no pull
// is left.
func (r *Registry) spend(w http.ResponseWriter, q Request) bool {
	user, source := userOf(q), "192.0.2.1"
	if user != "" {
		source = "account-" + user
	}
	r.mu.Lock()
	b := r.budget
	if b == nil {
		r.mu.Unlock()
		return true
	}
	pulls := b.pulls[user]
	for len(pulls) > 0 && time.Since(pulls[0]) >= b.window {
		pulls = pulls[1:]
	}
	allowed := q.Method == http.MethodHead || len(pulls) < b.limit
	if allowed && q.Method == http.MethodGet {
		pulls = append(pulls, time.Now())
	}
	b.pulls[user] = pulls
	left := b.limit - len(pulls)
	r.mu.Unlock()
	w.Header().Set("Ratelimit-Limit", quota(b.limit, b.window))
	w.Header().Set("Ratelimit-Remaining", quota(left, b.window))
	w.Header().Set("Docker-Ratelimit-Source", source)
	if !allowed {
		fail(w, q.Kind, http.StatusTooManyRequests, "")
	}
	return allowed
}

func quota(n int, window time.Duration) string {
	return fmt.Sprintf("%d;w=%d", n, int(window.Seconds()))
}

// userOf is the user who was shown in a request that was allowed, or to whom its token
// was issued.
func userOf(q Request) string {
	header := q.Header.Get("Authorization")
	if user, _, ok := (&http.Request{Header: q.Header}).BasicAuth(); ok {
		return user
	}
	token, _ := strings.CutPrefix(header, "Bearer token-")
	if i := strings.LastIndexByte(token, '-'); i >= 0 {
		return token[:i]
	}
	return ""
}
