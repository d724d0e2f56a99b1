package share

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// lend takes a spare slot that must be free, or must not.
func lend(t *testing.T, p *Pool, c Claim, want bool) (own context.Context, release func()) {
	t.Helper()
	own, release, ok := p.Spare(t.Context(), c)
	if ok != want {
		t.Errorf("a spare slot for %v: %v, want %v", c, ok, want)
	}
	if !ok {
		release = func() {}
	}
	return own, release
}

// hold takes a slot that must be free.
func hold(t *testing.T, p *Pool, c Claim) (release func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	release, err := p.Acquire(ctx, c)
	if err != nil {
		t.Errorf("%v: %v", c, err)
		return func() {}
	}
	return release
}

// queue lets a claim wait, and says when it has its slot.
func queue(t *testing.T, p *Pool, c Claim) (has <-chan func()) {
	got := make(chan func(), 1)
	go func() {
		if release, err := p.Acquire(t.Context(), c); err == nil {
			got <- release
		}
	}()
	synctest.Wait()
	return got
}

// TestSpareTakesWhatIsFree: a spare slot is bounded like any other, and never waits.
func TestSpareTakesWhatIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 8, PerHost: 4}
		hold(t, p, Claim{Rule: "a", Host: "h"})
		for range 3 {
			lend(t, p, Claim{Rule: "a", Host: "h"}, true)
		}
		lend(t, p, Claim{Rule: "a", Host: "h"}, false) // the host has no more
		lend(t, p, Claim{Rule: "a", Host: "i", Copy: true}, true)
		lend(t, p, Claim{Rule: "a", Host: "i", Copy: true}, true)
		lend(t, p, Claim{Rule: "a", Host: "i", Copy: true}, false) // copies leave half of a host
	})
}

// TestSpareLeavesAQuarter: beside another rule, spare slots too leave a quarter free.
func TestSpareLeavesAQuarter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 8}
		hold(t, p, Claim{Rule: "b", Host: "h"})()
		hold(t, p, Claim{Rule: "a", Host: "h"})
		for range 5 {
			lend(t, p, Claim{Rule: "a", Host: "h"}, true)
		}
		lend(t, p, Claim{Rule: "a", Host: "h"}, false)
		hold(t, p, Claim{Rule: "b", Host: "h"})
		hold(t, p, Claim{Rule: "b", Host: "h"})
		if p.Waiting() != 0 || len(p.lent) != 5 {
			t.Error("a claim that found a free slot asked one back")
		}
	})
}

// TestSpareGivesWay: the newest spare slot that is in the way of a claim is asked back, one
// for each claim, and the claim has it when it was released.
func TestSpareGivesWay(t *testing.T) {
	for name, c := range map[string]struct{ spare, claim Claim }{
		"to its own rule":       {Claim{Rule: "a", Host: "h"}, Claim{Rule: "a", Host: "h"}},
		"to another rule":       {Claim{Rule: "a", Host: "h"}, Claim{Rule: "b", Host: "h"}},
		"of a copy to a client": {Claim{Rule: "a", Host: "h", Copy: true}, Claim{Rule: "b", Host: "h"}},
		"of a copy to a copy":   {Claim{Rule: "a", Host: "h", Copy: true}, Claim{Rule: "a", Host: "h", Copy: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Pool{Size: 4}
				if !c.spare.Copy {
					hold(t, p, Claim{Rule: "a", Host: "h"})
					lend(t, p, c.spare, true)
				} else if !c.claim.Copy {
					hold(t, p, Claim{Rule: "a", Host: "h"})
					hold(t, p, Claim{Rule: "a", Host: "h"})
				}
				old, _ := lend(t, p, c.spare, true)
				newest, release := lend(t, p, c.spare, true)
				got := queue(t, p, c.claim)
				if old.Err() != nil || !errors.Is(context.Cause(newest), ErrWanted) {
					t.Errorf("asked back: the old one for %v, the new one for %v", context.Cause(old), context.Cause(newest))
				}
				lend(t, p, c.spare, false)
				release()
				synctest.Wait()
				select {
				case give := <-got:
					give()
				default:
					t.Error("the claim did not get what was released for it")
				}
			})
		})
	}
}

// TestSpareBesideAClaimThatWaits: nothing is lent that a claim may soon need, and what comes
// into the way of one later is asked back then.
func TestSpareBesideAClaimThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 8}
		hold(t, p, Claim{Rule: "b", Host: "i"})()
		free := hold(t, p, Claim{Rule: "a", Host: "h"})
		for range 5 {
			hold(t, p, Claim{Rule: "a", Host: "h"})
		}
		for range 2 { // a rule that is not alone has no more
			queue(t, p, Claim{Rule: "a", Host: "h"})
		}
		lend(t, p, Claim{Rule: "b", Host: "h"}, false)
		lend(t, p, Claim{Rule: "a", Host: "i"}, false)
		lend(t, p, Claim{Rule: "b", Host: "i"}, true)
		last, _ := lend(t, p, Claim{Rule: "b", Host: "i"}, true)
		if last.Err() != nil {
			t.Error("what is in nobody's way was asked back")
		}
		free() // the first has it, and all slots are taken then
		if !errors.Is(context.Cause(last), ErrWanted) {
			t.Error("what came into the way of a claim was not asked back")
		}
	})
}

// TestSpareCostsNoTurn: a rule with spare slots is not behind one that holds as many.
func TestSpareCostsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 4}
		hold(t, p, Claim{Rule: "b", Host: "h"})
		free := hold(t, p, Claim{Rule: "b", Host: "h"})
		lend(t, p, Claim{Rule: "a", Host: "h"}, true)
		lend(t, p, Claim{Rule: "a", Host: "h"}, true)
		other := queue(t, p, Claim{Rule: "b", Host: "h"})
		mine := queue(t, p, Claim{Rule: "a", Host: "h"})
		free()
		synctest.Wait()
		if len(mine) != 1 || len(other) != 0 {
			t.Error("spare slots count against the rule that gives them way")
		}
	})
}

// TestSpareEndsWithItsCaller: the loan ends with its context, and leaves nothing.
func TestSpareEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 1}
		left := errors.New("left")
		ctx, cancel := context.WithCancelCause(t.Context())
		own, release, ok := p.Spare(ctx, Claim{Rule: "a"})
		cancel(left)
		if !ok || context.Cause(own) != left {
			t.Error(ok, context.Cause(own))
		}
		release()
		if len(p.used) != 0 || len(p.lent) != 0 {
			t.Errorf("left over: %v, %v", p.used, p.lent)
		}
	})
}
