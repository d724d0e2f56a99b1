package cache

import (
	"net/http"
	"strings"

	"github.com/pullthrough/pullthrough/internal/route"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/webhook"
)

// maxAgent is the length of the longest User-Agent in an event, and maxHost that of
// the longest Host.
const (
	maxAgent = 256
	maxHost  = 255
)

// cause is what events say of the request that a copy comes from. It is kept for longer
// than the request, and must hold no part of a long text.
type cause struct{ method, host, agent string }

func causeOf(r *http.Request) cause {
	agent, host := "", r.Host
	if v := r.Header["User-Agent"]; len(v) > 0 { // r.UserAgent looks at the spelling of the name
		agent = v[0]
	}
	if len(agent) > maxAgent {
		agent = strings.Clone(agent[:maxAgent])
	}
	switch {
	case len(host) > maxHost:
		host = ""
	case r.URL.Host != "": // it is a part of the request's line
		host = strings.Clone(host)
	}
	return cause{methodOf(r), host, agent}
}

// shortLine is the length of a request's line that may be kept with what is a part of
// it.
const shortLine = 1 << 10

// parse is [route.Parse], and copies the path out of a long line: the names in it are
// kept for long.
func parse(r *http.Request) (route.Request, error) {
	u := r.URL
	if len(r.RequestURI) > shortLine || len(u.RawQuery) > shortLine {
		alone := *u
		alone.Path = strings.Clone(u.Path)
		u = &alone
	}
	return route.Parse(u)
}

// methodOf is the method of a request without the line of which it is a part.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodHead:
		return http.MethodHead
	}
	return strings.Clone(r.Method)
}

// request is the request of an event: nil if there is nothing to tell. Receivers
// build the name of the image from its host, so that is the public name of this
// cache, or else the host that the client asked for.
func (e *engine) request(c cause) *webhook.Request {
	host := e.cfg.Host
	if host == "" {
		if _, err := rule.CanonicalHost(c.host); err == nil {
			host = c.host
		}
	}
	if host == "" {
		return nil
	}
	return &webhook.Request{ID: webhook.NewID(), Host: host, Method: c.method, UserAgent: c.agent}
}
