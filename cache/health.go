package cache

import (
	"context"
	"errors"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
)

// probeEvery is how often an upstream that is down is asked again.
const probeEvery = time.Second

// healthKey says whose trouble it is. What refuses connections is the host's;
// 5xx is the repository's, or one bad repository would make all tags of the
// host stale; 429 is the rule's at that host, since the credential decides it,
// and so is slowness: it may be the credential's issuer who is slow. What is the
// rule's ends when its credential is exchanged.
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
		t, ok := e.health.Get(k)
		if !ok {
			continue
		}
		if now.Before(t.until) {
			return t.err, false
		}
		if t.err.Class == upstream.Limited {
			e.health.Delete(k)
			continue
		}
		return t.err, e.claim(k, now)
	}
	return nil, false
}

// barred returns why the upstream is not asked even if nothing is stored: a 429 that
// lasts, or a part of the embedder's that failed. nil: it is asked.
func (e *engine) barred(p place) error {
	if p.closed != nil {
		return p.closed
	}
	if t, ok := e.health.Get(p.healthKeys()[1]); ok && t.err.Class == upstream.Limited && time.Now().Before(t.until) {
		return t.err
	}
	return nil
}

// claim takes the right to probe: one request each second has it.
func (e *engine) claim(k healthKey, now time.Time) (mine bool) {
	e.health.Update(k, func(t trouble, ok bool) (trouble, int64, bool) {
		if ok && !now.Before(t.until) {
			mine = true
			t.until = now.Add(probeEvery)
		}
		return t, 1, ok
	})
	return mine
}

// heard records what an answer of the upstream, or its lack, tells about it.
func (e *engine) heard(p place, err error) {
	keys := p.healthKeys()
	var u *upstream.Error
	var later *auth.UnavailableError
	if !errors.As(err, &u) {
		if err == nil {
			e.healthy(keys[:])
		}
		return
	}
	t := trouble{until: time.Now().Add(probeEvery), err: u}
	switch {
	case errors.Is(err, context.Canceled):
	case u.Class == upstream.Limited, errors.As(err, &later), u.Timeout && u.Status == 0:
		t.until = time.Now().Add(max(u.RetryAfter, probeEvery))
		e.health.Put(keys[1], t, 1)
	case u.Class == upstream.Unreachable && u.Status == 0:
		e.health.Put(keys[0], t, 1)
	case u.Class == upstream.Unreachable:
		e.health.Put(keys[2], t, 1)
		e.healthy(keys[:1])
	case u.Class == upstream.Protocol:
		// one bad answer says nothing about the next
	default: // it answers: 404, 401, 403
		e.healthy(keys[:])
	}
}

func (e *engine) healthy(keys []healthKey) {
	for _, k := range keys {
		if _, ok := e.health.Get(k); ok {
			e.health.Delete(k)
		}
	}
}
