package cache

import (
	"net/http"

	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/webhook"
)

// maxAgent is the length of the longest User-Agent that is told.
const maxAgent = 256

// cause is what is told, in events, of the request that a copy comes from.
type cause struct{ method, host, agent string }

func causeOf(r *http.Request) cause {
	return cause{r.Method, r.Host, r.UserAgent()}
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
	return &webhook.Request{ID: webhook.NewID(), Host: host, Method: c.method, UserAgent: c.agent[:min(len(c.agent), maxAgent)]}
}
