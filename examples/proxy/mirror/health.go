package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

const (
	// A mirror that fails is left out for leastPause, and twice as long after each further
	// failure, up to mostPause. What it asks for itself is granted up to mostAsked.
	leastPause = 30 * time.Second
	mostPause  = 5 * time.Minute
	mostAsked  = time.Hour
)

// healthKey names a mirror as a rule sees it: what happens to one rule there does not keep
// another one from it.
type healthKey struct{ rule, host string }

// health is what is known about a mirror.
type health struct {
	until   time.Time     // when it may be asked again
	pause   time.Duration // the last one
	probing bool          // one request finds out whether it answers again
}

// call is a request to a mirror.
type call struct {
	upstream   *Upstream
	key        healthKey
	repository upstream.Repository
}

// begin opens the repository at a mirror. It returns false if the mirror is left out now, or
// if it cannot have the repository.
func (u *Upstream) begin(s upstream.Source, m Mirror) (c call, ok bool) {
	c = call{upstream: u, key: healthKey{s.Rule, m.Host}}
	u.mu.Lock()
	h := u.health[c.key]
	out := h != nil && (h.probing || time.Now().Before(h.until))
	if h != nil && !out {
		h.probing = true
	}
	u.mu.Unlock()
	if out {
		return c, false
	}
	var err error
	if c.repository, err = u.Opener.Open(m.source(s), m.Auth); err != nil {
		c.end(context.Background(), err)
		return c, false
	}
	return c, true
}

// end notes how a request ended. ctx is that of the caller: if that has ended, the mirror
// has not failed.
func (c call) end(ctx context.Context, err error) {
	var asked time.Duration
	failed := false
	if e, ok := errors.AsType[*upstream.Error](err); ok && (e.Class == upstream.Unreachable || e.Class == upstream.Limited) {
		failed, asked = ctx.Err() == nil, e.RetryAfter
	}
	u := c.upstream
	u.mu.Lock()
	h := u.health[c.key]
	switch {
	case failed:
		h = u.fail(c.key, asked)
	case h != nil && ctx.Err() != nil:
		h.probing = false // nobody knows
		h = nil
	default:
		delete(u.health, c.key)
		h = nil
	}
	u.mu.Unlock()
	if h != nil && u.Log != nil {
		u.Log.Warn("a mirror is left out for a while", "rule", c.key.rule, "mirror", c.key.host, "pause", h.pause, "error", err)
	}
}

// fail leaves a mirror out for a while. u.mu is held. It returns nil if the mirror was left
// out already, by a request that ran at the same time.
func (u *Upstream) fail(key healthKey, asked time.Duration) *health {
	h := u.health[key]
	switch {
	case h == nil:
		h = &health{pause: leastPause}
		if u.health == nil {
			u.health = map[healthKey]*health{}
		}
		u.health[key] = h
	case !h.probing && time.Now().Before(h.until):
		return nil
	default:
		h.pause = min(2*h.pause, mostPause)
	}
	h.probing = false
	h.until = time.Now().Add(max(h.pause, min(asked, mostAsked)))
	now := *h
	return &now
}
