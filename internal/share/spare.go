package share

import (
	"context"
	"errors"
	"slices"
)

// ErrWanted is why a spare slot is asked back: a claim waits that cannot have a slot
// beside it.
var ErrWanted = errors.New("share: a claim waits for the slot")

// Spare lends a slot that is free, without waiting for one. It returns false if there is
// none, or if another claim of the rule or at the host waits. Spare slots are bounded like
// all others, but do not count when it is decided whose turn it is.
//
// own ends with ctx, and with [ErrWanted] when the slot is asked back. The caller must call
// release once, and soon after own has ended.
func (p *Pool) Spare(ctx context.Context, c Claim) (own context.Context, release func(), ok bool) {
	t := &waiter{Claim: c}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.waiting {
		if w.Host == c.Host || w.Rule == c.Rule {
			return nil, nil, false
		}
	}
	if !p.free(t) {
		return nil, nil, false
	}
	own, t.askBack = context.WithCancelCause(ctx)
	p.count(t, 1)
	p.lent = append(p.lent, t)
	return own, func() { p.giveBack(t) }, true
}

// giveBack ends the loan of a slot.
func (p *Pool) giveBack(t *waiter) {
	t.askBack(nil)
	p.mu.Lock()
	p.lent = slices.DeleteFunc(p.lent, func(l *waiter) bool { return l == t })
	p.mu.Unlock()
	p.release(t)
}

// reclaimAll asks spare slots back that are in the way of those that wait: what was in
// nobody's way may be by now. p.mu is held.
func (p *Pool) reclaimAll() {
	for _, t := range p.waiting {
		p.reclaim(t)
	}
}

// reclaim asks spare slots back that are in the way of t, which waits: one for each bound,
// the newest first. p.mu is held.
func (p *Pool) reclaim(t *waiter) {
	if len(p.lent) == 0 {
		return
	}
	var asked []*waiter
	for _, b := range p.inTheWay(t) {
		if slices.ContainsFunc(asked, b.holds) {
			continue
		}
		for i, l := range slices.Backward(p.lent) {
			if b.holds(l) {
				p.lent = slices.Delete(p.lent, i, i+1)
				asked = append(asked, l)
				l.askBack(ErrWanted)
				break
			}
		}
	}
}

// holds reports whether the slot of l counts for the bound.
func (b bound) holds(l *waiter) bool {
	return (b.key.rule == "" || b.key.rule == l.Rule) && (b.key.host == "" || b.key.host == l.Host) && (!b.copies || l.Copy)
}
