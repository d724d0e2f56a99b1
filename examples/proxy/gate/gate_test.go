package gate_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/examples/proxy/gate"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func replaceYear(text string, from, to int) string {
	return strings.Replace(text, fmt.Sprint(from), fmt.Sprint(to), 1)
}

// asker is a gate that a test plays.
type asker struct {
	asked atomic.Int64
	now   atomic.Int64 // under way
	most  atomic.Int64
	takes time.Duration
	mu    sync.Mutex
	says  gate.Answer
	err   error
}

func (a *asker) Ask(ctx context.Context, _ gate.Question) (gate.Answer, error) {
	a.asked.Add(1)
	if n := a.now.Add(1); n > a.most.Load() {
		a.most.Store(n)
	}
	defer a.now.Add(-1)
	select {
	case <-time.After(a.takes):
	case <-ctx.Done():
		return gate.Answer{}, context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.says, a.err
}

func (a *asker) set(says gate.Answer, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.says, a.err = says, err
}

// TestAnswersAreRemembered: many pulls cost one question, until the answer has expired.
func TestAnswersAreRemembered(t *testing.T) {
	for name, row := range map[string]struct {
		says gate.Answer
		err  error
		want string
		keep time.Duration
	}{
		"admitted":   {says: gate.Answer{Admitted: true}, keep: time.Hour},
		"refused":    {says: gate.Answer{Reason: "CVE-1\nmore"}, want: "the gate refuses it: CVE-1", keep: time.Hour},
		"unreasoned": {want: "the gate refuses it: it says no reason", keep: time.Hour},
		"held":       {says: gate.Answer{Hold: 7 * time.Minute, Reason: "scanning"}, want: ": scanning", keep: 7 * time.Minute},
		"no answer":  {err: errDisk, want: ": the gate did not answer", keep: time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := &asker{says: row.says, err: row.err}
			g := started(t, &gate.Gates{}, map[string]gate.Rule{"hub": {Gate: a, Remember: time.Hour}})
			c := candidate("hub", "library/alpine", "3.22", "x")
			ask := func() {
				t.Helper()
				err := g.Admit(t.Context(), c)
				if (err == nil) != (row.want == "") || err != nil && !strings.HasSuffix(err.Error(), row.want) {
					t.Errorf("%s: %v", name, err)
				}
				if h, ok := errors.AsType[*cache.Hold](err); ok && time.Until(h.Until) > row.keep {
					t.Errorf("%s: held until %v", name, h.Until)
				}
			}
			for _, former := range []string{"", "x", "y"} { // what the tag stood for before does not matter
				c.Former = digest.Digest(former)
				ask()
			}
			time.Sleep(row.keep - 1)
			if ask(); a.asked.Load() != 1 {
				t.Errorf("%s: asked %d times", name, a.asked.Load())
			}
			time.Sleep(time.Nanosecond)
			if ask(); a.asked.Load() != 2 {
				t.Errorf("%s: asked %d times after the answer has expired", name, a.asked.Load())
			}
			c.Tag = "latest"
			if ask(); a.asked.Load() != 3 {
				t.Errorf("%s: an answer about another tag counts", name)
			}
			g.Assign(map[string]gate.Rule{"hub": {Gate: a, Remember: time.Hour}})
			if ask(); a.asked.Load() != 4 {
				t.Errorf("%s: an answer counts though the rules were assigned anew", name)
			}
		})
	}
}

// TestGateThatTakesItsTime: a pull waits for a moment, longer if there is nothing else to
// serve, and the question goes on behind it.
func TestGateThatTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{says: gate.Answer{Admitted: true}, takes: 25 * time.Second}
		g := started(t, &gate.Gates{}, map[string]gate.Rule{"hub": {Gate: a}})
		c := candidate("hub", "library/alpine", "3.22", "x")
		for former, wait := range map[digest.Digest]time.Duration{"": 10 * time.Second, "sha256:0": time.Second} {
			begun := time.Now()
			c.Former = former
			err := g.Admit(t.Context(), c)
			if h, ok := errors.AsType[*cache.Hold](err); !ok || !gate.Undecided(err) || time.Since(begun) != wait || time.Until(h.Until) != 2*time.Second {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
		}
		time.Sleep(25 * time.Second)
		if wantAdmitted(t, g, c); a.asked.Load() != 1 {
			t.Errorf("asked %d times", a.asked.Load())
		}
		a.takes = time.Hour
		c = candidate("hub", "library/alpine", "3.22", "y")
		if err := g.Admit(t.Context(), c); !gate.Undecided(err) {
			t.Error(err)
		}
		time.Sleep(gate.DefaultTimeout)
		if err := g.Admit(t.Context(), c); err == nil || gate.Undecided(err) || !strings.HasSuffix(err.Error(), "did not answer") {
			t.Errorf("after the time limit: %v", err)
		}
	})
}

// TestQuestionsAreBounded: two of a rule are under way, sixteen of all, and a rule that
// fills its queue holds what comes after.
func TestQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, all := &asker{takes: 20 * time.Second}, &asker{takes: 20 * time.Second}
		rules := map[string]gate.Rule{"crowd": {Gate: one}}
		for i := range 20 {
			rules[fmt.Sprint("rule", i)] = gate.Rule{Gate: all}
		}
		g := started(t, &gate.Gates{}, rules)
		var wg sync.WaitGroup
		var tooMany atomic.Int64
		for i := range 600 {
			wg.Go(func() {
				err := g.Admit(t.Context(), candidate("crowd", "c/c", fmt.Sprint("v", i), "x"))
				if !gate.Undecided(err) {
					t.Error(err)
				}
				if strings.Contains(err.Error(), "too many") {
					tooMany.Add(1)
				}
			})
		}
		wg.Wait()
		if one.most.Load() != 2 || tooMany.Load() != 600-512 {
			t.Errorf("%d questions of a rule at once, %d too many", one.most.Load(), tooMany.Load())
		}
		for i := range 20 {
			wg.Go(func() { _ = g.Admit(t.Context(), candidate(fmt.Sprint("rule", i), "a/a", "v1", "x")) })
		}
		wg.Wait()
		if n := all.most.Load(); n > 16 || n < 14 {
			t.Errorf("%d questions of twenty rules at once, want 16, two of them perhaps the crowd's", n)
		}
		g.Close() // ends all
		if n := one.now.Load() + all.now.Load(); n != 0 {
			t.Errorf("%d questions are left", n)
		}
		if err := g.Admit(t.Context(), candidate("crowd", "c/c", "late", "x")); !gate.Undecided(err) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestGatesOfACache: a new digest is held until it has been seen for long enough and the
// gate admits it, and the former image is served meanwhile.
func TestGatesOfACache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{says: gate.Answer{Reason: "it is signed by nobody"}}
		records := &store.Mem{}
		g := started(t, &gate.Gates{Records: records}, nil)
		up := upstreamtest.NewHandler()
		c := cacheOf(t, up, records)
		c.Admit = g.Admit
		want := func(img upstreamtest.Image) {
			t.Helper()
			desc, _, err := c.Manifest(t.Context(), "hub/team/api", "v1")
			if err != nil || desc.Digest != img.Digest {
				t.Errorf("%v, %v, want %v", desc.Digest, err, img.Digest)
			}
			synctest.Wait()
		}
		first := up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		want(first)
		g.Assign(map[string]gate.Rule{cachetest.Rule: {MinAge: time.Hour, Gate: a}})
		second := up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		want(first)
		if a.asked.Load() != 0 {
			t.Error("the gate was asked about an image that is not old enough")
		}
		x, err := c.Explain(t.Context(), "hub/team/api", "v1")
		if err != nil || x.Held != second.Digest || time.Until(x.HeldUntil) != time.Hour {
			t.Errorf("%+v, %v", x, err)
		}
		time.Sleep(time.Hour)
		want(first)
		if x, _ = c.Explain(t.Context(), "hub/team/api", "v1"); !strings.Contains(x.Text, "it is signed by nobody") {
			t.Error(x.Text)
		}
		a.set(gate.Answer{Admitted: true}, nil)
		time.Sleep(gate.DefaultRemember)
		want(second)
		want(second)
		if a.asked.Load() != 2 {
			t.Errorf("the gate was asked %d times, want twice", a.asked.Load())
		}
	})
}
