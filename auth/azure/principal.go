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
	// maxTickets bounds how many pairs of rule and host one principal remembers.
	maxTickets = 4096
	// renewBefore is how long before its end a refresh token is renewed, a
	// quarter of its life at most.
	renewBefore = 5 * time.Minute
	// invalidateAfter is how old a refused refresh token must be to be thrown
	// away if nothing says that another one helps: a missing role is no reason
	// for an exchange at every pull.
	invalidateAfter = 10 * time.Second
	// Failures are remembered for a moment, so that a crowd of pulls does not
	// become a crowd of questions.
	rememberDenied      = 5 * time.Second
	rememberUnavailable = time.Second
)

// principal is an identity of Entra that turns its tokens into refresh tokens
// of registries: one for each rule and host, never shared between rules.
type principal struct {
	settings   *settings
	credential azcore.TokenCredential
	who        string // names it in errors
	id         string // its ARM id; empty: no managed identity
	sameTenant bool   // its tenant must be the registry's

	once    sync.Once
	tickets *lru.Cache[ticketKey, *ticket]
	issued  atomic.Uint64
	shared  shared[*ticket]
}

type ticketKey struct{ rule, host string }

// ticket is a refresh token, or the failure to get one. It does not change.
type ticket struct {
	credential auth.Credential
	got        time.Time
	renew      time.Time // from here on another is fetched while this one serves
	end        time.Time
	err        error // instead of a credential
	worked     bool  // the upstream accepted it
	failed     bool  // the upstream refused it after Renew did what it could
}

// replaceable reports whether a refusal throws the ticket away. A token that
// worked, and is itself refused, is renewed however young it is. A token that
// failed waits, even if it works for something else: what Renew did about the
// refusal did not help.
func (t *ticket) replaceable(unauthenticated bool) bool {
	return unauthenticated && t.worked && !t.failed || time.Since(t.got) >= invalidateAfter
}

// Format writes the principal's name, whatever the verb: what it holds changes
// while it is looked at.
func (p *principal) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.who) }

func (p *principal) all() *lru.Cache[ticketKey, *ticket] {
	p.once.Do(func() { p.tickets = lru.New[ticketKey, *ticket](maxTickets) })
	return p.tickets
}

// Check reports whether the identity may be used for host.
func (p *principal) Check(host string) error { return p.settings.cloud.checkHost(host) }

// get returns the refresh token of a rule at a host.
func (p *principal) get(ctx context.Context, r auth.Request) (auth.Credential, error) {
	if err := p.Check(r.Host); err != nil {
		return auth.Credential{}, err
	}
	key, now := ticketKey{r.Rule, r.Host}, time.Now()
	have, ok := p.all().Get(key)
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

// fetch gets a refresh token and remembers it. A failure to renew one that is
// still good only puts off the next try.
func (p *principal) fetch(ctx context.Context, key ticketKey, repository string) (t *ticket) {
	if have, ok := p.all().Get(key); ok && time.Now().Before(have.renew) {
		return have // it came between the look and the question
	}
	token, err := p.exchanged(ctx, key.host, repository)
	now := time.Now()
	if err == nil {
		t = p.ticket(token, now)
		p.all().Put(key, t, 1)
		return t
	}
	p.all().Update(key, func(have *ticket, ok bool) (*ticket, int64, bool) {
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
	if later, ok := errors.AsType[*auth.UnavailableError](err); ok {
		return max(rememberUnavailable, later.RetryAfter)
	}
	return rememberDenied
}

// exchanged gets an Entra token and exchanges it. If the registry refuses it,
// the SDK's cache may be to blame: once more with a fresh one.
func (p *principal) exchanged(ctx context.Context, host, repository string) (string, error) {
	for _, fresh := range []bool{false, true} {
		entra, err := p.token(ctx, fresh)
		if err != nil {
			return "", err
		}
		token, err := p.settings.exchange(ctx, host, entra)
		refused, again := errors.AsType[*refusedError](err)
		switch {
		case again && !fresh && refused.status != 403:
			continue
		case again:
			return "", refused.explain(host, repository, p.who)
		}
		return token, err
	}
	panic("unreachable")
}

// note tells the ticket that c came from what became of it, and reports whether
// that ticket is the current one: what is said of an older one changes nothing.
// tell returns false if the ticket is to be thrown away.
func (p *principal) note(r auth.Request, c auth.Credential, tell func(*ticket) (keep bool)) (current bool) {
	p.all().Update(ticketKey{r.Rule, r.Host}, func(t *ticket, ok bool) (*ticket, int64, bool) {
		if current = ok && t.credential.RefreshToken.Equal(c.RefreshToken); !current {
			return t, 1, ok
		}
		told := *t // others read t
		keep := tell(&told)
		return &told, 1, keep
	})
	return current
}

func (p *principal) renew(r auth.Request, c auth.Credential, unauthenticated bool) (current bool) {
	return p.note(r, c, func(t *ticket) bool { return !t.replaceable(unauthenticated) })
}

func (p *principal) accepted(r auth.Request, c auth.Credential) (current bool) {
	return p.note(r, c, func(t *ticket) bool { t.worked = true; return true })
}

// Renew throws the refresh token c away: at once if it worked and is itself refused,
// otherwise if it is 10 seconds old.
func (p *principal) Renew(r auth.Request, c auth.Credential, unauthenticated bool) {
	p.renew(r, c, unauthenticated)
}

// Invalidate is Renew of a refresh token that is itself refused.
func (p *principal) Invalidate(r auth.Request, c auth.Credential) { p.renew(r, c, true) }

// Accepted remembers that the refresh token c worked.
func (p *principal) Accepted(r auth.Request, c auth.Credential) { p.accepted(r, c) }

// Refused says which role the identity lacks, or that the network is not let in.
func (p *principal) Refused(r auth.Request, c auth.Credential, f auth.Refusal) error {
	if f.Status != http.StatusForbidden { // Renew is not called for a 403
		p.note(r, c, func(t *ticket) bool { t.failed = true; return true })
	}
	if reason := acr.Explain(r.Host, r.Repository, p.who, max(f.Status, 401), f.Message); reason != "" {
		return &auth.DeniedError{Reason: reason}
	}
	return nil
}
