package cache

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/upstream"
)

// probeEvery is how often an upstream that is down is asked again.
const probeEvery = time.Second

// health remembers which upstreams are not asked just now, and why. Trouble belongs
// to whom it comes from:
//
//   - that no connection can be made is the host's, for all rules;
//   - 429, slowness, and whatever goes wrong with a credential or its token server is
//     one rule's at that host, and ends when its credential is exchanged;
//   - 5xx and connections that break are one repository's, or one bad repository
//     would make all tags of the host stale;
//   - what goes wrong where a redirect leads, what a client causes by its words or by
//     leaving, and what goes wrong on this side, is nobody's.
type health struct {
	hosts *lru.Cache[healthKey, trouble] // and rules at them
	repos *lru.Cache[healthKey, trouble] // of which there may be very many
}

// healthKey says whose trouble it is.
type healthKey struct {
	rule             string
	generation       uint64
	host, repository string
}

// trouble is why an upstream is not asked, and until when.
type trouble struct {
	until time.Time
	err   *upstream.Error
}

func (h *health) init() {
	h.hosts = lru.New[healthKey, trouble](4096)
	h.repos = lru.New[healthKey, trouble](4096)
}

// of is where the trouble of a key is remembered.
func (h *health) of(k healthKey) *lru.Cache[healthKey, trouble] {
	if k.repository != "" {
		return h.repos
	}
	return h.hosts
}

// keys of a place: its host's, its rule's, its repository's.
func (p place) healthKeys() [3]healthKey {
	s := p.match.Source
	rule := healthKey{rule: s.Rule, generation: p.match.Generation, host: s.Host}
	repository := rule
	repository.repository = s.Repository
	return [3]healthKey{{host: s.Host}, rule, repository}
}

// trouble returns why the upstream of p cannot be asked just now, nil if it
// can. due says that one request may find out whether that is still so.
func (e *engine) trouble(p place) (err *upstream.Error, due bool) {
	if p.closed != nil {
		return p.closed, false
	}
	now := time.Now()
	for _, k := range p.healthKeys() {
		t, ok := e.health.of(k).Get(k)
		if !ok {
			continue
		}
		if now.Before(t.until) {
			return t.err, false
		}
		if t.err.Class == upstream.Limited {
			e.health.of(k).Delete(k)
			continue
		}
		return t.err, e.health.claim(k, now)
	}
	return nil, false
}

// barred returns why the upstream is not asked even if nothing is stored: a 429 of
// the rule's host that lasts, or a part of the embedder's that failed. nil: it is
// asked.
func (e *engine) barred(p place) error {
	if p.closed != nil {
		return p.closed
	}
	k := p.healthKeys()[1]
	if t, ok := e.health.of(k).Get(k); ok && t.err.Class == upstream.Limited && time.Now().Before(t.until) {
		return t.err
	}
	return nil
}

// claim takes the right to probe: one request each second has it.
func (h *health) claim(k healthKey, now time.Time) (mine bool) {
	h.of(k).Update(k, func(t trouble, ok bool) (trouble, int64, bool) {
		if ok && !now.Before(t.until) {
			mine = true
			t.until = now.Add(probeEvery)
		}
		return t, 1, ok
	})
	return mine
}

// heard records what an answer of the upstream, or its lack, tells about it. A
// question that carries the words of a client (a chain of caches) tells nothing.
func (e *engine) heard(p place, err error) {
	if p.loop != "" || p.closed != nil {
		return
	}
	keys := p.healthKeys()
	if err == nil {
		e.health.well(keys[:])
		return
	}
	u, ok := errors.AsType[*upstream.Error](err)
	if !ok || errors.Is(err, context.Canceled) {
		return
	}
	switch whose(u) {
	case ofTheHost:
		e.health.ill(keys[0], u)
	case ofTheRule:
		e.health.ill(keys[1], u)
	case ofTheRepository:
		e.health.ill(keys[2], u)
		if u.Status != 0 {
			e.health.well(keys[:1])
		}
	case ofNobody:
	case itAnswers:
		e.health.well(keys[:])
	}
}

// verdicts on what went wrong.
type blame int

const (
	ofNobody blame = iota
	ofTheHost
	ofTheRule
	ofTheRepository
	itAnswers // 404, 401, 403: the upstream is well
)

// whose says whose trouble a failure is.
func whose(u *upstream.Error) blame {
	var later *auth.UnavailableError
	lasting := u.Class == upstream.Limited || u.Class == upstream.Unreachable
	switch {
	case u.Owner == upstream.Caller, u.Owner == upstream.Ours, u.Owner == upstream.Elsewhere, u.Status == http.StatusLoopDetected:
		return ofNobody
	case errors.As(u, &later):
		return ofTheRule
	case u.Owner == upstream.Authenticator || u.Owner == upstream.Issuer:
		if lasting {
			return ofTheRule
		}
		return ofNobody // a refusal, which says nothing about the host
	case u.Class == upstream.Limited, u.Timeout && u.Status == 0:
		return ofTheRule
	case u.Class == upstream.Unreachable && u.Connect:
		return ofTheHost
	case u.Class == upstream.Unreachable:
		return ofTheRepository
	case u.Class == upstream.Protocol: // one bad answer says nothing about the next
		return ofNobody
	}
	return itAnswers
}

// ill remembers trouble.
func (h *health) ill(k healthKey, u *upstream.Error) {
	h.of(k).Put(k, trouble{until: time.Now().Add(max(u.RetryAfter, probeEvery)), err: u}, 1)
}

// well forgets trouble.
func (h *health) well(keys []healthKey) {
	for _, k := range keys {
		if _, ok := h.of(k).Get(k); ok {
			h.of(k).Delete(k)
		}
	}
}

var (
	// errAnswer ends a question that the upstream did not answer within Limits.Answer.
	errAnswer = &patience{"cache: the upstream did not answer in time"}
	// errPatience ends a client's wait for an answer, within Limits.Stale or Answer.
	errPatience = &patience{"cache: nobody waits any longer"}
)

// patience is the end of a time that this cache allows, as opposed to one that its
// caller does.
type patience struct{ text string }

func (p *patience) Error() string { return p.text }

// Is makes it a deadline for everybody else.
func (p *patience) Is(target error) bool { return target == context.DeadlineExceeded }

// within bounds a question by Limits.Answer.
func (e *engine) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, e.limits.Answer, errAnswer)
}

// slow makes a failure the upstream's if it was this cache's limit that ended the
// question, and not its caller.
func (p place) slow(ctx context.Context, err error) error {
	u, ok := errors.AsType[*upstream.Error](err)
	if !ok || u.Owner != upstream.Caller || context.Cause(ctx) != error(errAnswer) {
		return err
	}
	late := *u
	late.Owner, late.Timeout, late.Class = upstream.Home, true, upstream.Unreachable
	return &late
}
