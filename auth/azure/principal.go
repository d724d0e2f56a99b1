package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/acr"
	"github.com/pullthrough/pullthrough/internal/lru"
)

const (
	// maxTickets is how many refresh tokens one principal remembers.
	maxTickets = 4096
	// renewBefore is how long before its end a refresh token is renewed, but at most a
	// quarter of its lifetime.
	renewBefore = 5 * time.Minute
	// invalidateAfter is how old a refused refresh token must be to be discarded if
	// nothing suggests that a new one would help: a missing role must not cause an
	// exchange at every pull.
	invalidateAfter = 10 * time.Second
	// Failures are remembered for a moment, so that many pulls do not cause many
	// requests.
	rememberDenied      = 5 * time.Second
	rememberUnavailable = time.Second
)

// principal is an identity of Entra that exchanges its tokens for refresh tokens of
// registries: one for each rule and host, never shared between rules.
type principal struct {
	settings   *settings
	credential azcore.TokenCredential
	who        string // names it in errors
	id         string // its ARM id; empty if it is no managed identity
	sameTenant bool   // it must belong to the tenant of the registry

	once    sync.Once
	tickets *lru.Cache[ticketKey, *ticket]
	issued  atomic.Uint64
	shared  shared[*ticket]
}

type ticketKey struct{ rule, host string }

// ticket is a refresh token, or the failure to get one. It is immutable.
type ticket struct {
	credential auth.Credential
	got        time.Time
	renew      time.Time // when another one is fetched, while this one is still used
	end        time.Time
	err        error // instead of a credential
	worked     bool  // the upstream accepted it
	failed     bool  // the upstream refused it after a call of Renew
}

// replaceable reports whether a refusal discards the ticket. A token that worked and is
// itself refused is renewed however new it is. One that failed must be old enough, even if
// it works for another repository, since its renewal did not help.
func (t *ticket) replaceable(unauthenticated bool) bool {
	return unauthenticated && t.worked && !t.failed || time.Since(t.got) >= invalidateAfter
}

// Format writes the principal's name for every verb. Its fields change concurrently, so
// they cannot be printed.
func (p *principal) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.who) }

// ticketCache returns the tickets by rule and host.
func (p *principal) ticketCache() *lru.Cache[ticketKey, *ticket] {
	p.once.Do(func() { p.tickets = lru.New[ticketKey, *ticket](maxTickets) })
	return p.tickets
}

// Check returns an error unless the identity may be used for host.
func (p *principal) Check(host string) error { return p.settings.cloud.checkHost(host) }

// get returns the refresh token of a rule at a host.
func (p *principal) get(ctx context.Context, r auth.Request) (auth.Credential, error) {
	if err := p.Check(r.Host); err != nil {
		return auth.Credential{}, err
	}
	key, now := ticketKey{r.Rule, r.Host}, time.Now()
	have, ok := p.ticketCache().Get(key)
	if ok && now.Before(have.renew) {
		return have.credential, have.err
	}
	fetch := func(ctx context.Context) (*ticket, error) { return p.fetch(ctx, key, r.Repository), nil }
	name := strconv.Quote(r.Rule) + r.Host
	if ok && have.err == nil && now.Before(have.end) {
		p.shared.start(name, p.settings.timeout, fetch)
		return have.credential, nil
	}
	t, err := p.shared.do(ctx, name, p.settings.timeout, fetch)
	if err != nil {
		return auth.Credential{}, err
	}
	return t.credential, t.err
}

// fetch gets a refresh token and remembers it. If the renewal of a valid token fails, that
// token stays, and only the next attempt is put off.
func (p *principal) fetch(ctx context.Context, key ticketKey, repository string) (t *ticket) {
	if have, ok := p.ticketCache().Get(key); ok && time.Now().Before(have.renew) {
		return have // another fetch ended after get had looked
	}
	token, err := p.refreshToken(ctx, key.host, repository)
	now := time.Now()
	if err == nil {
		t = p.ticket(token, now)
		p.ticketCache().Put(key, t, 1)
		return t
	}
	p.ticketCache().Update(key, func(have *ticket, ok bool) (*ticket, int64, bool) {
		t = &ticket{err: err}
		if ok && have.err == nil && now.Before(have.end) {
			*t = *have
		}
		t.renew = now.Add(pause(err))
		return t, 1, true
	})
	return t
}

func (p *principal) ticket(token string, now time.Time) *ticket {
	life := readClaims(token).lifetime(now)
	return &ticket{
		credential: auth.Credential{
			RefreshToken: auth.NewSensitive(token),
			Expires:      now.Add(life),
			Version:      strconv.FormatUint(p.issued.Add(1), 10),
		},
		got:   now,
		renew: now.Add(life - min(renewBefore, life/4)),
		end:   now.Add(life),
	}
}

// pause is how long a failure is remembered.
func pause(err error) time.Duration {
	if unavailable, ok := errors.AsType[*auth.UnavailableError](err); ok {
		return max(rememberUnavailable, unavailable.RetryAfter)
	}
	return rememberDenied
}

// refreshToken gets an Entra token and exchanges it. If the registry refuses the token, it
// may have come from the SDK's cache, so refreshToken tries once more with a fresh one.
func (p *principal) refreshToken(ctx context.Context, host, repository string) (string, error) {
	for _, fresh := range []bool{false, true} {
		entra, err := p.token(ctx, fresh)
		if err != nil {
			return "", err
		}
		token, err := p.settings.exchange(ctx, host, entra)
		refused, isRefusal := errors.AsType[*refusedError](err)
		switch {
		case isRefusal && !fresh && refused.status != 403:
			continue
		case isRefusal:
			return "", refused.explain(host, repository, p.who)
		}
		return token, err
	}
	panic("unreachable")
}

// update changes a copy of the ticket that c came from, and replaces the ticket by it.
// change returns false if the ticket is to be discarded. If c came from an older ticket
// than the current one, update changes nothing and returns false.
func (p *principal) update(r auth.Request, c auth.Credential, change func(*ticket) (keep bool)) (current bool) {
	p.ticketCache().Update(ticketKey{r.Rule, r.Host}, func(t *ticket, ok bool) (*ticket, int64, bool) {
		if current = ok && t.credential.RefreshToken.Equal(c.RefreshToken); !current {
			return t, 1, ok
		}
		changed := *t // t may be read concurrently
		keep := change(&changed)
		return &changed, 1, keep
	})
	return current
}

func (p *principal) renew(r auth.Request, c auth.Credential, unauthenticated bool) (current bool) {
	return p.update(r, c, func(t *ticket) bool { return !t.replaceable(unauthenticated) })
}

func (p *principal) accepted(r auth.Request, c auth.Credential) (current bool) {
	return p.update(r, c, func(t *ticket) bool { t.worked = true; return true })
}

// Renew discards the refresh token c: at once if it worked and is itself refused, otherwise
// if it is 10 seconds old.
func (p *principal) Renew(r auth.Request, c auth.Credential, unauthenticated bool) {
	p.renew(r, c, unauthenticated)
}

// Invalidate is Renew for a refresh token that is itself refused.
func (p *principal) Invalidate(r auth.Request, c auth.Credential) { p.renew(r, c, true) }

// Accepted remembers that the refresh token c worked.
func (p *principal) Accepted(r auth.Request, c auth.Credential) { p.accepted(r, c) }

// Refused returns an error that names the missing role, or says that the registry's
// firewall refuses the network.
func (p *principal) Refused(r auth.Request, c auth.Credential, f auth.Refusal) error {
	if f.Status != http.StatusForbidden { // Renew is not called for a 403
		p.update(r, c, func(t *ticket) bool { t.failed = true; return true })
	}
	if reason := acr.Explain(r.Host, r.Repository, p.who, max(f.Status, 401), f.Message); reason != "" {
		return &auth.DeniedError{Reason: reason}
	}
	return nil
}
