package share

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// hog claims n slots for each claim and holds what it gets until ctx ends.
func hog(ctx context.Context, p *Pool, n int, claims ...Claim) {
	for range n {
		for _, c := range claims {
			go func() {
				if release, err := p.Acquire(ctx, c); err == nil {
					<-ctx.Done()
					release()
				}
			}()
		}
	}
	synctest.Wait()
}

// TestSlotsOfOneRule: how many slots a rule gets that wants more than there are, alone
// and beside another rule that claimed one before.
func TestSlotsOfOneRule(t *testing.T) {
	hogAt := func(copies bool, hosts ...string) (claims []Claim) {
		for _, h := range hosts {
			claims = append(claims, Claim{Rule: "hog", Host: h, Copy: copies})
		}
		return claims
	}
	many := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for name, c := range map[string]struct {
		pool   *Pool
		before time.Duration // how long ago the other rule was active; 0 means never
		claims []Claim
		want   int
	}{
		"alone, all":                              {&Pool{Size: 8}, 0, hogAt(false, "h"), 8},
		"alone, all of a host":                    {&Pool{Size: 100, PerHost: 8}, 0, hogAt(false, "h"), 8},
		"beside another, three quarters":          {&Pool{Size: 8}, time.Minute, hogAt(false, "h"), 6},
		"at many hosts too":                       {&Pool{Size: 8, PerHost: 4}, time.Minute, hogAt(false, many...), 6},
		"three quarters of a host":                {&Pool{Size: 100, PerHost: 8}, time.Minute, hogAt(false, "h"), 6},
		"almost ten minutes later":                {&Pool{Size: 8}, 10*time.Minute - time.Second, hogAt(false, "h"), 6},
		"after ten minutes all again":             {&Pool{Size: 8}, 10*time.Minute + time.Second, hogAt(false, "h"), 8},
		"copies alone, half":                      {&Pool{Size: 8}, 0, hogAt(true, "h"), 4},
		"copies alone, half of a host":            {&Pool{Size: 100, PerHost: 8}, 0, hogAt(true, "h"), 4},
		"copies beside another, less":             {&Pool{Size: 8}, time.Minute, hogAt(true, "h"), 3},
		"copies at many hosts beside another":     {&Pool{Size: 8, PerHost: 4}, time.Minute, hogAt(true, many...), 3},
		"copies at one host beside another":       {&Pool{Size: 100, PerHost: 8}, time.Minute, hogAt(true, "h"), 3},
		"a single slot is not divided":            {&Pool{Size: 1}, time.Minute, hogAt(false, "h"), 1},
		"a single slot is for a copy too":         {&Pool{Size: 1}, time.Minute, hogAt(true, "h"), 1},
		"a rule without a name is like any other": {&Pool{Size: 8}, time.Minute, []Claim{{}}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if c.before > 0 {
					release, _ := c.pool.Acquire(context.Background(), Claim{Rule: "other", Host: "elsewhere"})
					release()
					time.Sleep(c.before)
				}
				ctx, cancel := context.WithCancel(context.Background())
				defer synctest.Wait()
				defer cancel()
				hog(ctx, c.pool, 20, c.claims...)
				if n, all := c.pool.Held(c.claims[0].Rule); n != c.want || all != c.want {
					t.Errorf("it holds %d of %d slots, want %d", n, all, c.want)
				}
			})
		})
	}
}

// TestFreeSlotsServeAnotherRule: another rule gets a slot that a hog leaves free at
// once, and a client does so beside copies that hold all they may.
func TestFreeSlotsServeAnotherRule(t *testing.T) {
	for _, copies := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := &Pool{Size: 8, PerHost: 4}
			release, _ := p.Acquire(context.Background(), Claim{Rule: "late", Host: "h"})
			release()
			ctx, cancel := context.WithCancel(context.Background())
			defer synctest.Wait()
			defer cancel()
			hog(ctx, p, 20, Claim{Rule: "hog", Host: "h", Copy: copies})
			begun := time.Now()
			release, err := p.Acquire(ctx, Claim{Rule: "late", Host: "h"})
			if err != nil || time.Since(begun) != 0 {
				t.Errorf("copies %v: %v after %v", copies, err, time.Since(begun))
				return
			}
			release()
		})
	}
}

// TestOrderOfClaims: among claims of one rule and host the first goes first; among the
// hosts of one rule, the host that holds fewest.
func TestOrderOfClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 4}
		var held []func() // three at g, one at h
		for _, host := range []string{"g", "g", "g", "h"} {
			release, _ := p.Acquire(context.Background(), Claim{Rule: "a", Host: host})
			held = append(held, release)
		}
		served := make(chan string, 4)
		for i, host := range []string{"g", "g", "h", "h"} {
			go func() {
				release, _ := p.Acquire(context.Background(), Claim{Rule: "a", Host: host})
				served <- fmt.Sprint(host, i)
				time.Sleep(time.Second)
				release()
			}()
			synctest.Wait()
		}
		held[0]() // two at g and one at h are left
		order := []string{<-served, <-served, <-served, <-served}
		if want := []string{"h2", "h3", "g0", "g1"}; !slices.Equal(order, want) {
			t.Errorf("the order is %v, want %v", order, want)
		}
		time.Sleep(2 * time.Second)
		for _, release := range held[1:] {
			release()
		}
	})
}

// TestAbandonedClaims: claims that were given up get no slot, and none is lost.
func TestAbandonedClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 1}
		first, _ := p.Acquire(context.Background(), Claim{Rule: "a", Host: "h"})
		ctx, cancel := context.WithCancel(context.Background())
		var got atomic.Int32
		for range 50 {
			go func() {
				if _, err := p.Acquire(ctx, Claim{Rule: "a", Host: "h"}); err == nil {
					got.Add(1)
				}
			}()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if n := p.Waiting(); n != 0 || got.Load() != 0 {
			t.Fatalf("%d wait and %d hold a slot", n, got.Load())
		}
		first()
		last, err := p.Acquire(context.Background(), Claim{Rule: "b", Host: "h"})
		if err != nil {
			t.Fatal(err)
		}
		last()
		if len(p.used) != 0 {
			t.Errorf("left over: %v", p.used)
		}
	})
}

// TestActiveRulesAreBounded: however many rules there are, few of them are remembered.
func TestActiveRulesAreBounded(t *testing.T) {
	p := &Pool{Size: 1}
	for i := range 3 * maxSeen {
		release, _ := p.Acquire(context.Background(), Claim{Rule: fmt.Sprint(i), Host: "h"})
		release()
	}
	if n := len(p.seen); n > maxSeen {
		t.Errorf("%d rules are remembered, want %d at most", n, maxSeen)
	}
}

// TestRuleThatBecomesAlone: it gets the slots that were free for others, though no slot
// is claimed or released meanwhile.
func TestRuleThatBecomesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 4}
		release, err := p.Acquire(t.Context(), Claim{Rule: "other"})
		if err != nil {
			t.Fatal(err)
		}
		release()
		begun := time.Now()
		for range 4 {
			if _, err := p.Acquire(t.Context(), Claim{Rule: "one"}); err != nil {
				t.Fatal(err)
			}
		}
		if waited := time.Since(begun); waited < 9*time.Minute || waited > 12*time.Minute {
			t.Errorf("the last slot was given after %v", waited)
		}
	})
}

// TestEndedContextTakesNoSlot: a caller whose context has ended gets none.
func TestEndedContextTakesNoSlot(t *testing.T) {
	p := &Pool{Size: 1}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if release, err := p.Acquire(ctx, Claim{Rule: "one"}); err == nil {
			release()
			t.Fatal("a slot was given to a caller that had given up")
		}
	}
	if _, all := p.Held("one"); all != 0 {
		t.Errorf("%d slots are held", all)
	}
}
