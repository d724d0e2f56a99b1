package origin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/upstream"
)

// probeEvery is how often an upstream that is down is asked again.
const probeEvery = time.Second

// health remembers which upstreams are not asked for the moment, and why. Trouble
// belongs to what it comes from:
//
//   - that no connection can be made is the host's, for all rules;
//   - 429, slowness, and whatever goes wrong with a credential or its token server is
//     one rule's at that host, and ends when its credential is replaced;
//   - 5xx and connections that break are one repository's, or one bad repository
//     would make all tags of the host stale;
//   - how little is left of a budget is that of a credential at a host, or of all that
//     have none (see budgets);
//   - what goes wrong where a redirect leads, what a client causes by its words or by
//     leaving, and what goes wrong on this side, is nobody's.
type health struct {
	hosts *lru.Cache[healthKey, trouble] // of hosts, and of rules at them
	repos *lru.Cache[healthKey, trouble] // of repositories, of which there may be very many
}

// healthKey names a host, a rule at a host, or a repository of a rule at a host.
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

// healthKeys are the three keys of a Repo.
type healthKeys struct{ host, rule, repository healthKey }

func (r Repo) healthKeys() healthKeys {
	s := r.Match.Source
	k := healthKeys{host: healthKey{host: s.Host}}
	k.rule = healthKey{rule: s.Rule, generation: r.Match.Generation, host: s.Host}
	k.repository = k.rule
	k.repository.repository = s.Repository
	return k
}

func (k healthKeys) all() [3]healthKey { return [...]healthKey{k.host, k.rule, k.repository} }

// none reports whether no trouble is known at all. It takes no lock.
func (h *health) none() bool { return h.hosts.Empty() && h.repos.Empty() }

// of is where the trouble of a key is remembered.
func (h *health) of(k healthKey) *lru.Cache[healthKey, trouble] {
	if k.repository != "" {
		return h.repos
	}
	return h.hosts
}

// Down returns why the upstream cannot be asked now, or nil if it can be asked. With
// probe, one request may find out whether that is still so.
func (r Repo) Down() (err *upstream.Error, probe bool) {
	if r.closed != nil {
		return r.closed, false
	}
	h := &r.origins.health
	if h.none() {
		return nil, false
	}
	now := time.Now()
	for _, k := range r.healthKeys().all() {
		t, ok := h.of(k).Get(k)
		if !ok {
			continue
		}
		if now.Before(t.until) {
			return t.err, false
		}
		if t.err.Class == upstream.Limited {
			h.of(k).Delete(k)
			continue
		}
		return t.err, h.claim(k, now)
	}
	return nil, false
}

// Barred returns why the upstream is not asked even if nothing is stored: a 429 of the
// rule's host that lasts, or a Matcher or an Opener that failed. If nil, it is asked.
func (r Repo) Barred() error {
	if r.closed != nil {
		return r.closed
	}
	k := r.healthKeys().rule
	if t, ok := r.origins.health.hosts.Get(k); ok && t.err.Class == upstream.Limited && time.Now().Before(t.until) {
		return t.err
	}
	return nil
}

// claim takes the right to probe, which one request has each second.
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

// HeardBlob records what a request for a blob, or its download, came to.
func (r Repo) HeardBlob(d digest.Digest, err error) {
	r.Heard(err)
	r.noteAbsent(Blob, d.String(), err)
}

// Heard records what an answer of the upstream, or the lack of one, tells about it. The
// methods of [Slot] do it by themselves. A request that carries the words of a client (a
// chain of caches) tells nothing.
func (r Repo) Heard(err error) {
	if r.loop != "" || r.closed != nil {
		return
	}
	h, keys := &r.origins.health, r.healthKeys()
	all := keys.all()
	if err == nil {
		if !h.none() {
			h.well(all[:])
		}
		return
	}
	u, ok := errors.AsType[*upstream.Error](err)
	if !ok || errors.Is(err, context.Canceled) {
		return
	}
	switch whose(u) {
	case ofTheHost:
		h.ill(keys.host, u)
	case ofTheRule:
		h.ill(keys.rule, u)
	case ofTheRepository:
		h.ill(keys.repository, u)
		if u.Status != 0 {
			h.well(all[:1])
		}
	case ofNobody:
	case itAnswers:
		h.well(all[:])
	}
}

// blame says whose trouble a failure is.
type blame int

const (
	ofNobody blame = iota
	ofTheHost
	ofTheRule
	ofTheRepository
	itAnswers // 404, 401, 403: the upstream is well
)

// whose is the one table that says whose trouble a failure is.
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
	case u.Class == upstream.Protocol, u.Class == "": // one bad answer says nothing about the next
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
