package share

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// crowd makes each claim n times, holds each slot for a second, and returns the most
// slots that were held at once, by rule/, /host, rule/host and "" for all.
func crowd(t *testing.T, p *Pool, n int, claims ...Claim) map[string]int {
	t.Helper()
	var mu sync.Mutex
	now, most := map[string]int{}, map[string]int{}
	add := func(c Claim, n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, k := range []string{"", c.Rule + "/", "/" + c.Host, c.Rule + "/" + c.Host} {
			now[k] += n
			most[k] = max(most[k], now[k])
		}
	}
	var wg sync.WaitGroup
	for range n {
		for _, c := range claims {
			wg.Go(func() {
				release, err := p.Acquire(context.Background(), c)
				if err != nil {
					t.Error(err)
					return
				}
				add(c, 1)
				time.Sleep(time.Second)
				add(c, -1)
				release()
			})
		}
	}
	wg.Wait()
	if len(p.used) != 0 || len(p.waiting) != 0 {
		t.Errorf("left over: %v, %v", p.used, p.waiting)
	}
	return most
}

func TestBounds(t *testing.T) {
	for name, c := range map[string]struct {
		pool   *Pool
		claims []Claim
		want   map[string]int
	}{
		"alone":                   {&Pool{Size: 8}, []Claim{{Rule: "a", Host: "h"}}, map[string]int{"": 8}},
		"of a host too":           {&Pool{Size: 100, PerHost: 8}, []Claim{{Rule: "a", Host: "h"}, {Rule: "b", Host: "h"}}, map[string]int{"": 8, "/h": 8, "a/": 6}},
		"two rules take all":      {&Pool{Size: 8}, []Claim{{Rule: "a", Host: "h"}, {Rule: "b", Host: "h"}}, map[string]int{"": 8, "a/": 6, "b/": 6}},
		"two hosts of one rule":   {&Pool{Size: 8, PerHost: 4}, []Claim{{Rule: "a", Host: "g"}, {Rule: "a", Host: "h"}, {Rule: "b", Host: "i"}}, map[string]int{"": 8, "a/": 6, "a/g": 3, "a/h": 3}},
		"copies leave half":       {&Pool{Size: 8}, []Claim{{Rule: "a", Host: "h", Copy: true}, {Rule: "b", Host: "h", Copy: true}}, map[string]int{"": 4, "a/": 3}},
		"one slot":                {&Pool{Size: 1}, []Claim{{Rule: "a", Host: "h", Copy: true}, {Rule: "b", Host: "h"}}, map[string]int{"": 1}},
		"without rules and hosts": {&Pool{Size: 4}, []Claim{{}}, map[string]int{"": 4}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				most := crowd(t, c.pool, 30, c.claims...)
				for k, want := range c.want {
					if got := most[k]; got > want || k == "" && got != want {
						t.Errorf("%q held %d slots at once, want %d", k, got, want)
					}
				}
			})
		})
	}
}

// TestNextSlotGoesToTheRuleThatHoldsFewest: a rule that comes late to a full pool gets
// the next slot, not the last.
func TestNextSlotGoesToTheRuleThatHoldsFewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 4}
		var hogs sync.WaitGroup
		for i := range 40 {
			hogs.Go(func() {
				release, err := p.Acquire(context.Background(), Claim{Rule: fmt.Sprint("hog", i%2), Host: "h"})
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(10 * time.Second)
				release()
			})
		}
		time.Sleep(time.Second)
		begun := time.Now()
		release, err := p.Acquire(context.Background(), Claim{Rule: "honest", Host: "h"})
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d > 10*time.Second {
			t.Errorf("it took %v, longer than one slot is held", d)
		}
		release()
		hogs.Wait()
	})
	synctest.Test(t, func(t *testing.T) { // a single hog beside a rule that is active leaves it a slot
		p := &Pool{Size: 4}
		first, _ := p.Acquire(context.Background(), Claim{Rule: "honest", Host: "h"})
		first()
		time.Sleep(9 * time.Minute)
		var hogs sync.WaitGroup
		for range 20 {
			hogs.Go(func() {
				release, _ := p.Acquire(context.Background(), Claim{Rule: "hog", Host: "h"})
				time.Sleep(10 * time.Second)
				release()
			})
		}
		time.Sleep(time.Second)
		begun := time.Now()
		release, err := p.Acquire(context.Background(), Claim{Rule: "honest", Host: "h"})
		if err != nil || time.Since(begun) != 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		release()
		hogs.Wait()
	})
}

// TestLeavingAndPromotion: a caller that gives up takes no slot, and a copy that a
// client joins counts as a client.
func TestLeavingAndPromotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 2}
		first, _ := p.Acquire(context.Background(), Claim{Rule: "a", Host: "h", Copy: true})
		promoted := make(chan struct{})
		got := make(chan func(), 1)
		go func() {
			release, err := p.Acquire(context.Background(), Claim{Rule: "b", Host: "h", Copy: true, Promoted: promoted})
			if err != nil {
				t.Error(err)
			}
			got <- release
		}()
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("copies take more than half")
		default:
		}
		close(promoted)
		second := <-got
		ctx, cancel := context.WithCancelCause(context.Background())
		gone := errors.New("gone")
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := p.Acquire(ctx, Claim{Rule: "c", Host: "h"}); !errors.Is(err, gone) {
			t.Errorf("%v, want the cause of the context's end", err)
		}
		if n := p.Waiting(); n != 0 {
			t.Errorf("%d wait though they gave up", n)
		}
		if rule, all := p.Held("a"); rule != 1 || all != 2 {
			t.Errorf("a holds %d of %d", rule, all)
		}
		first()
		second()
	})
}

// TestAtRandom: no slot is given out twice, and none is lost.
func TestAtRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 5, PerHost: 3}
		r := rand.New(rand.NewPCG(1, 2))
		var wg sync.WaitGroup
		for range 500 {
			c := Claim{Rule: fmt.Sprint(r.IntN(4)), Host: fmt.Sprint(r.IntN(3)), Copy: r.IntN(2) == 0}
			if r.IntN(2) == 0 {
				promoted := make(chan struct{})
				time.AfterFunc(time.Duration(r.IntN(30))*time.Second, func() { close(promoted) })
				c.Promoted = promoted
			}
			hold, leave := time.Duration(r.IntN(5000))*time.Millisecond, time.Duration(r.IntN(60))*time.Second
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), leave)
				defer cancel()
				release, err := p.Acquire(ctx, c)
				if err != nil {
					return
				}
				if _, all := p.Held(""); all > 5 {
					t.Errorf("%d of 5 slots are held", all)
				}
				time.Sleep(hold)
				release()
			})
		}
		wg.Wait()
		if len(p.used) != 0 || p.Waiting() != 0 {
			t.Errorf("left over: %v, %d", p.used, p.Waiting())
		}
	})
}

func BenchmarkAcquire(b *testing.B) {
	p := &Pool{Size: 1 << 20}
	c := Claim{Rule: "a", Host: "h"}
	for b.Loop() {
		release, _ := p.Acquire(context.Background(), c)
		release()
	}
}

// Try takes what is free, and leaves nothing behind where nothing is.
func TestTry(t *testing.T) {
	p := &Pool{Size: 2}
	a := Claim{Rule: "a", Host: "h"}
	first, ok1 := p.Try(a)
	second, ok2 := p.Try(a)
	if _, ok := p.Try(a); !ok1 || !ok2 || ok || p.Waiting() != 0 {
		t.Fatalf("two slots: %v, %v, %v, %d wait", ok1, ok2, ok, p.Waiting())
	}
	first()
	if first, ok1 = p.Try(a); !ok1 {
		t.Fatal("a slot that was given back is not free")
	}
	first()
	second()
	if byRule, all := p.Held("a"); byRule != 0 || all != 0 {
		t.Errorf("left over: %d, %d", byRule, all)
	}
}

// A claim that need not wait does not overtake those that do, even if they need not any
// more and have not noticed yet.
func TestNobodyOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 8}
		a, b := Claim{Rule: "a", Host: "h"}, Claim{Rule: "b", Host: "h"}
		release, _ := p.Try(b) // so that a may not have all slots for a while
		release()
		for range Most(8) {
			if _, ok := p.Try(a); !ok {
				t.Fatal("no slot is free")
			}
		}
		time.Sleep(aloneCheck / 2)
		got := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := p.Acquire(t.Context(), a)
				got <- err
			}()
		}
		time.Sleep(recent - aloneCheck/2 + time.Second)
		if _, ok := p.Try(a); ok {
			t.Fatal("overtook a claim that waits")
		}
		if err := errors.Join(<-got, <-got); err != nil {
			t.Error(err)
		}
	})
}

// A slot that is free costs what describes it and what gives it back.
func TestAFreeSlotIsCheap(t *testing.T) {
	p := &Pool{Size: 8}
	c := Claim{Rule: "a", Host: "h"}
	if n := testing.AllocsPerRun(100, func() {
		release, _ := p.Try(c)
		release()
	}); n > 2 {
		t.Errorf("%v allocations, want at most 2", n)
	}
}

// TestUse: what is held is counted by rule, over all its hosts.
func TestUse(t *testing.T) {
	p := &Pool{Size: 8}
	var held []func()
	for _, c := range []Claim{{Rule: "a", Host: "g"}, {Rule: "a", Host: "h"}, {Rule: "b", Host: "h"}} {
		release, ok := p.Try(c)
		if !ok {
			t.Fatalf("%+v gets no slot", c)
		}
		held = append(held, release)
	}
	if u := p.Use(); u.Held != 3 || u.Waiting != 0 || len(u.Rules) != 2 || u.Rules["a"] != 2 || u.Rules["b"] != 1 {
		t.Errorf("%+v", u)
	}
	for _, release := range held {
		release()
	}
	if u := p.Use(); u.Held != 0 || len(u.Rules) != 0 {
		t.Errorf("afterwards: %+v", u)
	}
}
