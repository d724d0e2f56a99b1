// Package share gives out a bounded number of slots, fairly among rules and among the
// hosts of each rule.
//
// A rule that is alone may take all slots. When none is free, the next one goes to the
// rule that holds fewest, within that rule to the host that holds fewest, and there to
// the claim that has waited longest. A rule beside which another one was active in the
// last ten minutes leaves a quarter of all slots, and a quarter of those of each host,
// free for others, so that they need not wait until one of its slots is released.
// Copies leave half of the slots to clients.
//
// A slot that would stay unused can be lent; see [Pool.Spare]. It goes back as soon as a
// claim waits for it.
package share

import (
	"context"
	"slices"
	"sync"
	"time"
)

// recent is how long a rule counts as active after its last claim.
const recent = 10 * time.Minute

// aloneCheck is how often a waiting claim checks whether its rule is alone by now.
const aloneCheck = time.Minute

// maxSeen is how many active rules are remembered.
const maxSeen = 1024

// Claim describes a request for a slot.
type Claim struct {
	Rule, Host string
	// Copy says that the slot is for a copy, for which no client waits.
	Copy bool
	// Promoted, when closed, turns the claim of a copy into that of a client. If nil,
	// it stays a copy's.
	Promoted <-chan struct{}
}

// Pool is a number of slots. Its exported fields must be set before its first use
// and not change. It is safe for concurrent use.
type Pool struct {
	Size    int // slots in all
	PerHost int // slots at one host; zero means Size

	mu      sync.Mutex
	used    map[key]use
	waiting []*waiter            // in order of arrival
	lent    []*waiter            // spare slots that were not asked back yet, the oldest first
	seen    map[string]time.Time // when each rule claimed something last
}

// key is what slots are counted by: a rule, a host, or both. The zero key counts all.
type key struct{ rule, host string }

// use counts the slots that are held, and how many of them copies hold and how many are
// spare.
type use struct{ all, copies, spare int }

// own is how many slots are held that nobody can ask back.
func (u use) own() int { return u.all - u.spare }

// waiter is a claim that waits for its slot, or holds it.
type waiter struct {
	Claim
	ok      chan struct{}           // closed when the claim has its slot; nil if it did not wait
	askBack context.CancelCauseFunc // of a spare slot; nil if it is none
}

// Acquire waits for a slot. If ctx ends first, it returns the cause. The caller must
// call release once, which gives the slot back.
func (p *Pool) Acquire(ctx context.Context, c Claim) (release func(), err error) {
	t := &waiter{Claim: c}
	if !p.enter(t) {
		return p.wait(ctx, t)
	}
	return p.granted(ctx, t)
}

// Try takes a slot without waiting. If that is not possible, ok is false. The caller must
// call release once, which gives the slot back.
func (p *Pool) Try(c Claim) (release func(), ok bool) {
	t := &waiter{Claim: c}
	if !p.enter(t) && p.abandon(t) {
		return nil, false
	}
	return func() { p.release(t) }, true
}

// Room reports whether a claim would get its slot at once, or as soon as spare slots come
// back that were not asked back yet. It takes no slot, so that another claim may come
// first. Claims that wait are not in the way: none of them may have a slot that is free.
func (p *Pool) Room(c Claim) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.inTheWay(&waiter{Claim: c}) {
		if !slices.ContainsFunc(p.lent, b.holds) {
			return false
		}
	}
	return true
}

// enter gives a slot to t, or has it wait for one. It reports whether t has its slot.
func (p *Pool) enter(t *waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.see(t.Rule)
	if len(p.waiting) == 0 && p.free(t) {
		p.count(t, 1)
		return true
	}
	t.ok = make(chan struct{})
	p.waiting = append(p.waiting, t)
	p.dispatch()
	select {
	case <-t.ok:
		return true
	default:
		return false
	}
}

// wait waits until t, which has entered the queue, has its slot.
func (p *Pool) wait(ctx context.Context, t *waiter) (release func(), err error) {
	p.mu.Lock()
	if slices.Contains(p.waiting, t) {
		p.reclaim(t)
	}
	p.mu.Unlock()
	promoted := t.Promoted
	if !t.Copy {
		promoted = nil
	}
	check := time.NewTicker(aloneCheck)
	defer check.Stop()
	for {
		select {
		case <-t.ok:
			return p.granted(ctx, t)
		case <-check.C:
			p.dispatchNow()
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

// granted is what Acquire returns when t has its slot. If the caller has given up
// meanwhile, the slot goes back.
func (p *Pool) granted(ctx context.Context, t *waiter) (release func(), err error) {
	if ctx.Err() != nil {
		p.release(t)
		return nil, context.Cause(ctx)
	}
	return func() { p.release(t) }, nil
}

// Held returns how many slots a rule holds, and how many are held in all.
func (p *Pool) Held(rule string) (byRule, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used[key{rule: rule}].all, p.used[key{}].all
}

// Waiting returns how many claims wait for a slot.
func (p *Pool) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// Use is how the slots of a [Pool] are used at one moment.
type Use struct {
	Held, Waiting int
	Rules         map[string]int // slots that each rule holds, if any
}

// Use returns how the slots are used.
func (p *Pool) Use() Use {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := Use{Held: p.used[key{}].all, Waiting: len(p.waiting), Rules: map[string]int{}}
	for k, held := range p.used {
		if k.rule != "" && k.host == "" {
			u.Rules[k.rule] = held.all
		}
	}
	return u
}

// see notes that a rule is active. p.mu is held.
func (p *Pool) see(rule string) {
	now := time.Now()
	if p.seen == nil {
		p.seen = map[string]time.Time{}
	}
	if _, known := p.seen[rule]; !known && len(p.seen) >= maxSeen {
		clear(p.seen) // rules that are active are soon noted again
	}
	p.seen[rule] = now
}

// alone reports whether no other rule is active. p.mu is held.
func (p *Pool) alone(rule string) bool {
	for r, last := range p.seen {
		if r != rule && time.Since(last) <= recent {
			return false
		}
	}
	return true
}

// dispatch gives a slot to each waiter that may have one. p.mu is held.
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

// dispatchNow is dispatch without p.mu held.
func (p *Pool) dispatchNow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dispatch()
}

// free reports whether t may have a slot now. p.mu is held.
func (p *Pool) free(t *waiter) bool { return len(p.inTheWay(t)) == 0 }

// bound is what a claim cannot pass: the slots of a key, or of the copies in it, are taken.
type bound struct {
	key    key
	copies bool
}

// inTheWay returns the bounds that keep t from a slot, the narrowest first. p.mu is held.
func (p *Pool) inTheWay(t *waiter) (full []bound) {
	perHost := p.PerHost
	if perHost <= 0 {
		perHost = p.Size
	}
	inAll, atHost, ofRule, ofBoth := key{}, key{host: t.Host}, key{rule: t.Rule}, key{t.Rule, t.Host}
	all, host, rule, both := p.used[inAll], p.used[atHost], p.used[ofRule], p.used[ofBoth]
	add := func(is bool, k key, copies bool) {
		if is {
			full = append(full, bound{k, copies})
		}
	}
	add(both.all >= Most(perHost), ofBoth, false)
	add(rule.all >= Most(p.Size), ofRule, false)
	add(t.Copy && both.copies >= Most(half(perHost)), ofBoth, true)
	add(t.Copy && rule.copies >= Most(half(p.Size)), ofRule, true)
	if len(full) > 0 && p.alone(t.Rule) { // it need not leave anything to others
		full = nil
	}
	add(host.all >= perHost, atHost, false)
	add(all.all >= p.Size, inAll, false)
	add(t.Copy && host.copies >= half(perHost), atHost, true)
	add(t.Copy && all.copies >= half(p.Size), inAll, true)
	return full
}

// Most is how many of n slots one rule may hold while others are active.
func Most(n int) int { return max(1, n-n/4) }

// half is how many of n slots copies may hold.
func half(n int) int { return max(1, n/2) }

// before reports whether a goes before b, which arrived earlier. p.mu is held.
func (p *Pool) before(a, b *waiter) bool {
	if x, y := p.used[key{rule: a.Rule}].own(), p.used[key{rule: b.Rule}].own(); x != y {
		return x < y
	}
	return p.used[key{a.Rule, a.Host}].own() < p.used[key{b.Rule, b.Host}].own()
}

// count adds n to the slots held by the rule and at the host of t. p.mu is held.
func (p *Pool) count(t *waiter, n int) {
	if p.used == nil {
		p.used = map[key]use{}
	}
	keys := [...]key{{}, {host: t.Host}, {rule: t.Rule}, {t.Rule, t.Host}}
	for i, k := range keys {
		if slices.Contains(keys[:i], k) { // without a rule or a host, some keys are equal
			continue
		}
		u := p.used[k]
		u.all += n
		if t.Copy {
			u.copies += n
		}
		if t.askBack != nil {
			u.spare += n
		}
		if u == (use{}) {
			delete(p.used, k)
			continue
		}
		p.used[k] = u
	}
}

// promote turns the claim of a copy into that of a client.
func (p *Pool) promote(t *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-t.ok: // it keeps the slot of a copy
	default:
		t.Copy = false
		p.dispatch()
		p.reclaimAll()
	}
}

// abandon takes t out of the queue. It returns false if t has got its slot meanwhile.
func (p *Pool) abandon(t *waiter) bool {
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

func (p *Pool) release(t *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(t, -1)
	p.dispatch()
	p.reclaimAll()
}
