package origin

import (
	"errors"
	"fmt"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/upstream"
)

// ErrBudget reports that the rest of a budget is kept for what is not stored.
var ErrBudget = errors.New("the rest of the upstream's budget is kept for what is not stored")

// shortWindow is how long a rest is kept if the host does not say when it has more.
const shortWindow = time.Minute

// budgets remembers where little is left of the requests that a host allows. A budget
// belongs to a host and a credential; all who ask a host without one share that of the
// address of this cache. A rule whose credential was replaced, and whose account is not
// known yet, has a budget of which nothing is known.
type budgets struct {
	keep     map[string]int                // Config.KeepBudget
	accounts *lru.Cache[healthKey, string] // of rules at hosts
	low      *lru.Cache[account, rest]
}

// account is whose budget it is.
type account struct{ host, name string }

// rest is what is left of a budget, until the window has passed in which it was used up.
type rest struct {
	upstream.RateLimit
	until time.Time
}

func newBudgets(keep map[string]int) budgets {
	return budgets{keep: keep, accounts: lru.New[healthKey, string](4096), low: lru.New[account, rest](4096)}
}

// told remembers what a host said to a request of r. What another host says that an Opener
// asks in its place, such as a mirror, is about that one.
func (b *budgets) told(r Repo, l upstream.RateLimit) {
	key := r.healthKeys().rule
	if l.Host != "" && l.Host != key.host {
		return
	}
	if known, ok := b.accounts.Get(key); !ok || known != l.Account {
		b.accounts.Put(key, l.Account, 1)
	}
	a := account{key.host, l.Account}
	if l.Remaining > b.keep[key.host] {
		if !b.low.Empty() {
			b.low.Delete(a)
		}
		return
	}
	window := l.Window
	if window <= 0 {
		window = shortWindow
	}
	b.low.Put(a, rest{l, time.Now().Add(window)}, 1)
}

// accountOf is the account of r's rule, if it is known.
func (b *budgets) accountOf(r Repo) (account, bool) {
	key := r.healthKeys().rule
	if name, ok := b.accounts.Get(key); ok {
		return account{key.host, name}, true
	}
	_, anonymous := r.Match.Rule.Auth.(auth.Anonymous)
	return account{key.host, ""}, anonymous || r.Match.Rule.Auth == nil
}

// Spared returns why the upstream is not asked for what a stored image can stand in for,
// nor for copies that nobody waits for: so little is left of its budget that the rest is
// kept for what is not stored. The error wraps [ErrBudget]; if nil, it is asked.
func (r Repo) Spared() error {
	b := &r.origins.budgets
	if b.low.Empty() || r.Match == nil {
		return nil
	}
	a, known := b.accountOf(r)
	if !known {
		return nil
	}
	low, ok := b.low.Get(a)
	if !ok || !time.Now().Before(low.until) {
		return nil
	}
	of := ""
	if low.Limit > 0 {
		of = fmt.Sprintf(" of %d", low.Limit)
	}
	return &upstream.Error{
		Source: r.Match.Source, Op: "budget", Class: upstream.Limited, Owner: upstream.Ours, Err: ErrBudget,
		Reason: fmt.Sprintf("%d%s pulls are left there, which are kept for what is not stored, until %s", low.Remaining, of, low.until.UTC().Format(time.RFC3339)),
	}
}
