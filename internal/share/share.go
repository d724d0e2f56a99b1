// Package share gives out places: a bounded number of them, fairly among rules and
// among the hosts of each.
//
// A share that is not used is lent: a rule that is alone has all places. When there is
// none left, the next one goes to the rule that holds fewest, and there to the host
// that holds fewest, and there to the claim that waits longest. What is lent is never
// kept: when other rules were there in the last ten minutes, one leaves a quarter of
// the places, and a quarter of those of each host, to them, so that they need not wait
// for its end. Copies leave half of the places to clients.
package share

import (
	"context"
	"sync"
	"time"
)

// recent is how long a rule counts as there after its last claim.
const recent = 10 * time.Minute

// lookAgain is how often a claim that waits looks whether its rule is alone by now.
const lookAgain = time.Minute

// maxSeen is how many rules are remembered as there.
const maxSeen = 1024

// Claim says who wants a place.
type Claim struct {
	Rule, Host string
	// Copy says that no client waits for it.
	Copy bool
	// Promoted makes it a client's when it is closed; nil: it never is.
	Promoted <-chan struct{}
}

// Pool is a number of places. Its exported fields must be set before its first use
// and not change. It is safe for concurrent use.
type Pool struct {
	Size    int // places in all
	PerHost int // places at one host; zero: Size

	mu      sync.Mutex
	used    map[key]use
	waiting []*turn              // in order of arrival
	seen    map[string]time.Time // when each rule claimed something last
}

// key is what places are counted by: a rule, a host or both, and with neither all.
type key struct{ rule, host string }

// use counts the places taken, and how many of them by copies.
type use struct{ all, copies int }

// turn is a claim that waits.
type turn struct {
	Claim
	ok chan struct{} // closed when it has its place
}

// Acquire waits for a place, or for the end of ctx, whose cause it returns then. The
// place is given back by the returned function, which must be called once.
func (p *Pool) Acquire(ctx context.Context, c Claim) (release func(), err error) {
	t := &turn{Claim: c, ok: make(chan struct{})}
	p.mu.Lock()
	p.see(c.Rule)
	p.waiting = append(p.waiting, t)
	p.dispatch()
	p.mu.Unlock()
	select {
	case <-t.ok:
		return p.given(ctx, t)
	default:
	}
	promoted := c.Promoted
	if !c.Copy {
		promoted = nil
	}
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		select {
		case <-t.ok:
			return p.given(ctx, t)
		case <-again.C: // a rule may be alone by now
			p.again()
		case <-promoted:
			promoted = nil
			p.promote(t)
		case <-ctx.Done():
			if !p.abandon(t) {
				p.release(t)
			}
			return nil, context.Cause(ctx)
		}
	}
}

// given is what Acquire returns when t has its place: nobody may want it any more.
func (p *Pool) given(ctx context.Context, t *turn) (release func(), err error) {
	if ctx.Err() != nil {
		p.release(t)
		return nil, context.Cause(ctx)
	}
	return func() { p.release(t) }, nil
}

// Held returns how many places a rule holds, and how many are held in all.
func (p *Pool) Held(rule string) (byRule, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used[key{rule: rule}].all, p.used[key{}].all
}

// Waiting returns how many wait for a place.
func (p *Pool) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// see notes that a rule is there. p.mu is held.
func (p *Pool) see(rule string) {
	now := time.Now()
	if p.seen == nil {
		p.seen = map[string]time.Time{}
	}
	if _, known := p.seen[rule]; !known && len(p.seen) >= maxSeen {
		clear(p.seen) // who is there comes again
	}
	p.seen[rule] = now
}

// alone reports whether no other rule is there. p.mu is held.
func (p *Pool) alone(rule string) bool {
	for r, at := range p.seen {
		if r != rule && time.Since(at) <= recent {
			return false
		}
	}
	return true
}

// dispatch gives places to all who can have one. p.mu is held.
func (p *Pool) dispatch() {
	for len(p.waiting) > 0 {
		next := -1
		for i, t := range p.waiting {
			if p.free(t) && (next < 0 || p.before(t, p.waiting[next])) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		t := p.waiting[next]
		p.waiting = append(p.waiting[:next], p.waiting[next+1:]...)
		p.count(t, 1)
		close(t.ok)
	}
}

func (p *Pool) again() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dispatch()
}

// free reports whether t may have a place now. p.mu is held.
func (p *Pool) free(t *turn) bool {
	perHost := p.PerHost
	if perHost <= 0 {
		perHost = p.Size
	}
	all, host := p.used[key{}], p.used[key{host: t.Host}]
	rule, both := p.used[key{rule: t.Rule}], p.used[key{t.Rule, t.Host}]
	if all.all >= p.Size || host.all >= perHost {
		return false
	}
	if t.Copy && (all.copies >= half(p.Size) || host.copies >= half(perHost)) {
		return false
	}
	if rule.all < Most(p.Size) && both.all < Most(perHost) &&
		(!t.Copy || rule.copies < Most(half(p.Size)) && both.copies < Most(half(perHost))) {
		return true
	}
	return p.alone(t.Rule)
}

// Most is how many of n places one rule may hold while others are there.
func Most(n int) int { return max(1, n-n/4) }

// half is how many of n places copies may hold.
func half(n int) int { return max(1, n/2) }

// before reports whether a comes before b, who came earlier. p.mu is held.
func (p *Pool) before(a, b *turn) bool {
	if x, y := p.used[key{rule: a.Rule}].all, p.used[key{rule: b.Rule}].all; x != y {
		return x < y
	}
	return p.used[key{a.Rule, a.Host}].all < p.used[key{b.Rule, b.Host}].all
}

// count notes that t takes places, or gives them back. p.mu is held.
func (p *Pool) count(t *turn, n int) {
	if p.used == nil {
		p.used = map[key]use{}
	}
	counted := map[key]bool{}
	for _, k := range [4]key{{}, {host: t.Host}, {rule: t.Rule}, {t.Rule, t.Host}} {
		if counted[k] { // without a rule or a host some are the same
			continue
		}
		counted[k] = true
		u := p.used[k]
		u.all += n
		if t.Copy {
			u.copies += n
		}
		if u == (use{}) {
			delete(p.used, k)
			continue
		}
		p.used[k] = u
	}
}

// promote makes a copy's turn a client's.
func (p *Pool) promote(t *turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-t.ok: // it keeps the copy's place
	default:
		t.Copy = false
		p.dispatch()
	}
}

// abandon takes t out of the queue; false: it got its place meanwhile.
func (p *Pool) abandon(t *turn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range p.waiting {
		if w == t {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func (p *Pool) release(t *turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(t, -1)
	p.dispatch()
}
