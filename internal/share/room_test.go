package share

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestRoomSaysWhatTryFinds: whatever is held and whatever waits, there is room exactly where
// a claim gets its slot at once, and to ask takes nothing.
func TestRoomSaysWhatTryFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		claim := func() Claim {
			return Claim{Rule: fmt.Sprint(r.IntN(3)), Host: fmt.Sprint(r.IntN(3)), Copy: r.IntN(3) == 0}
		}
		saw := map[bool]int{}
		for range 100 {
			p := &Pool{Size: 2 + r.IntN(7), PerHost: 1 + r.IntN(5)}
			ctx, end := context.WithCancel(t.Context())
			for range 12 {
				go func(c Claim) {
					if release, err := p.Acquire(ctx, c); err == nil {
						<-ctx.Done()
						release()
					}
				}(claim())
				synctest.Wait()
				c := claim()
				before := p.Use()
				room := p.Room(c)
				if after := p.Use(); after.Held != before.Held || after.Waiting != before.Waiting {
					t.Errorf("to ask for room took something: %+v, then %+v", before, after)
				}
				release, ok := p.Try(c)
				if ok != room {
					t.Errorf("room for %+v: %v; a slot: %v", c, room, ok)
				}
				if saw[ok]++; ok {
					release()
				}
			}
			end()
			synctest.Wait()
		}
		if saw[true] < 100 || saw[false] < 100 {
			t.Errorf("the test saw %v", saw)
		}
	})
}

// TestRoomOfOneRuleIsNotAnothers: claims that wait because their own rule has all that it may
// have, or because they are of copies, take no room from others.
func TestRoomOfOneRuleIsNotAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 8, PerHost: 4}
		a, b := Claim{Rule: "a", Host: "h"}, Claim{Rule: "b", Host: "h"}
		hold(t, p, b)() // it is active
		for range 3 {
			hold(t, p, a)
		}
		queue(t, p, a)
		if p.Waiting() != 1 || p.Room(a) || !p.Room(b) {
			t.Errorf("%d wait, room for the rule that waits %v, for the other one %v", p.Waiting(), p.Room(a), p.Room(b))
		}
		q := &Pool{Size: 4}
		for range 2 {
			hold(t, q, Claim{Rule: "a", Host: "h", Copy: true})
		}
		queue(t, q, Claim{Rule: "a", Host: "h", Copy: true})
		if q.Waiting() != 1 || q.Room(Claim{Rule: "a", Host: "h", Copy: true}) || !q.Room(a) {
			t.Errorf("%d wait, room for a client beside copies that wait: %v", q.Waiting(), q.Room(a))
		}
	})
}

// TestRoomCountsWhatIsLent: a spare slot that can be asked back is room, and one that was
// asked back for another claim is not.
func TestRoomCountsWhatIsLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Size: 3}
		c := Claim{Rule: "a", Host: "h"}
		hold(t, p, c)
		hold(t, p, c)
		own, giveBack := lend(t, p, c, true)
		if !p.Room(c) || own.Err() != nil {
			t.Errorf("room %v, %v", p.Room(c), own.Err())
		}
		has := queue(t, p, c) // which asks it back
		if !errors.Is(context.Cause(own), ErrWanted) || p.Room(c) {
			t.Errorf("room for two claims where one slot comes back: %v", context.Cause(own))
		}
		time.AfterFunc(time.Second, giveBack)
		release := <-has
		if p.Room(c) {
			t.Error("there is room where everything is held")
		}
		release()
		if !p.Room(c) {
			t.Error("there is no room where a slot came back")
		}
		elsewhere := &Pool{Size: 4, PerHost: 2}
		hold(t, elsewhere, c)
		hold(t, elsewhere, c)
		lend(t, elsewhere, Claim{Rule: "a", Host: "i"}, true)
		if elsewhere.Room(c) {
			t.Error("what is lent at another host is room at a host that has none")
		}
	})
}
