package watch_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// TestStateOfAHost: what each answer says of a host.
func TestStateOfAHost(t *testing.T) {
	type e = upstream.Error
	for name, c := range map[string]struct {
		err    error
		status int
		want   watch.HostStatus
		noted  bool // as the last error
	}{
		"an answer":                       {nil, 200, watch.HostOK, false},
		"unchanged":                       {upstream.ErrUnchanged, 304, watch.HostOK, false},
		"404":                             {&e{Class: upstream.NotFound, Status: 404}, 404, watch.HostOK, false},
		"403":                             {&e{Class: upstream.Denied, Status: 403}, 403, watch.HostOK, true},
		"429":                             {&e{Class: upstream.Limited, Status: 429, RetryAfter: time.Minute}, 429, watch.HostLimited, true},
		"503":                             {&e{Class: upstream.Unreachable, Status: 503}, 503, watch.HostFailing, true},
		"nonsense":                        {&e{Class: upstream.Protocol, Status: 200}, 200, watch.HostFailing, true},
		"no connection":                   {&e{Class: upstream.Unreachable, Connect: true}, 0, watch.HostUnreachable, true},
		"a timeout":                       {&e{Class: upstream.Unreachable, Timeout: true}, 0, watch.HostUnreachable, true},
		"its token server is down":        {&e{Class: upstream.Unreachable, Owner: upstream.Issuer}, 0, watch.HostUnknown, true},
		"a storage behind it is down":     {&e{Class: upstream.Unreachable, Owner: upstream.Elsewhere}, 0, watch.HostUnknown, true},
		"a credential that cannot be had": {&e{Class: upstream.Denied, Owner: upstream.Authenticator}, 0, watch.HostUnknown, true},
		"a client that left":              {&e{Class: upstream.Unreachable, Owner: upstream.Caller, Err: context.Canceled}, 0, watch.HostUnknown, false},
		"something else":                  {errors.New("something else"), 0, watch.HostUnknown, true},
	} {
		rec := &watch.Recorder{}
		rec.Call(upstream.Call{Source: upstream.Source{Host: "h", Repository: "r", Rule: "a"}, Op: upstream.OpManifest, Status: c.status, Err: c.err, Bytes: 7, Retries: 1})
		h := rec.Hosts()[0]
		if h.Status != c.want || (h.LastError != nil) != c.noted || h.Bytes != 7 || h.Retries != 1 {
			t.Errorf("%s: %+v, want %s", name, h, c.want)
		}
		if ok := c.want == watch.HostOK || c.want == watch.HostLimited || c.want == watch.HostFailing; h.Reachable() != ok {
			t.Errorf("%s: reachable: %t", name, h.Reachable())
		}
		if (c.want == watch.HostLimited) == h.Until.IsZero() {
			t.Errorf("%s: limited until %v", name, h.Until)
		}
	}
}

// TestStateChanges: a host is down, comes back, and the last error stays to be seen.
func TestStateChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &watch.Recorder{}
		call := func(err error) watch.HostState {
			time.Sleep(time.Minute)
			rec.Call(upstream.Call{Source: upstream.Source{Host: "h"}, Op: upstream.OpBlob, Err: err})
			return rec.Hosts()[0]
		}
		down := &upstream.Error{Class: upstream.Unreachable, Connect: true, Err: errors.New("connection refused")}
		ok := call(nil)
		call(down)
		still := call(down)
		if still.Status != watch.HostUnreachable || time.Since(still.Since) != time.Minute || !still.LastSuccess.Equal(ok.LastSuccess) {
			t.Errorf("while it is down: %+v", still)
		}
		back := call(nil)
		if back.Status != watch.HostOK || time.Since(back.LastSuccess) != 0 || back.LastError == nil || back.LastError.Class != upstream.Unreachable || time.Since(back.LastError.Time) != time.Minute {
			t.Errorf("when it is back: %+v", back)
		}
		if c := back.Calls; len(c) != 1 || c[0] != (watch.CallCount{Op: upstream.OpBlob, Status: "none", Count: 4}) {
			t.Errorf("calls: %+v", c)
		}
	})
}

// TestBudgets: each account has what the host said last, there are not too many, and the least
// is the one that counts, for as long as its window.
func TestBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &watch.Recorder{}
		call := func(l *upstream.RateLimit) watch.HostState {
			rec.Call(upstream.Call{Source: upstream.Source{Host: "h"}, Op: upstream.OpManifest, Status: 200, RateLimit: l})
			return rec.Hosts()[0]
		}
		if b, ok := call(nil).Budget(); ok {
			t.Errorf("a budget of a host that said nothing: %+v", b)
		}
		call(&upstream.RateLimit{Limit: 100, Remaining: 70, Window: 6 * time.Hour, Source: "192.0.2.1"})
		call(&upstream.RateLimit{Limit: 100, Remaining: 3, Window: time.Hour, Source: "b", Account: "b"})
		h := call(&upstream.RateLimit{Limit: 100, Remaining: 69, Window: 6 * time.Hour, Source: "192.0.2.1"})
		if b, ok := h.Budget(); !ok || b.Remaining != 3 || b.Source != "b" || len(h.Budgets) != 2 {
			t.Errorf("%+v of %+v", b, h.Budgets)
		}
		time.Sleep(2 * time.Hour)
		if b, ok := h.Budget(); !ok || b.Remaining != 69 || b.Limit != 100 {
			t.Errorf("after the window of b: %+v", b)
		}
		for i := range 100 {
			h = call(&upstream.RateLimit{Remaining: i, Account: fmt.Sprint("x", i)})
		}
		if len(h.Budgets) != 16 || h.Budgets[15].Remaining != 99 {
			t.Errorf("%d budgets: %+v", len(h.Budgets), h.Budgets)
		}
		call(nil)
		if len(rec.Hosts()[0].Budgets) != 16 {
			t.Error("a call that says nothing of budgets changes them")
		}
	})
}

// TestStatuses: which statuses have a count of their own.
func TestStatuses(t *testing.T) {
	for status, want := range map[int]string{0: "none", 200: "200", 206: "206", 404: "404", 429: "429", 299: "2xx", 418: "4xx", 599: "5xx", 600: "other", -3: "other", 12: "other"} {
		rec := &watch.Recorder{}
		rec.Call(upstream.Call{Source: upstream.Source{Host: "h"}, Op: upstream.OpTags, Status: status})
		if got := rec.Hosts()[0].Calls[0].Status; got != want {
			t.Errorf("%d counts as %q, want %q", status, got, want)
		}
	}
}

// TestHistory: ten hours of pulls, in which the second half are hits and the store grows.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &watch.Recorder{}
		var fetched, content atomic.Int64
		var broken atomic.Bool
		ctx, end := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer end()
		size := func(context.Context) (store.Size, error) {
			if broken.Load() {
				return store.Size{}, errors.New("the disk is gone")
			}
			return store.Size{Content: content.Load(), Overhead: 5, Free: 100 - content.Load()}, nil
		}
		go rec.Run(ctx, func() cache.Stats { return cache.Stats{BytesFetched: fetched.Load()} }, size)
		time.Sleep(time.Second) // between the steps
		const hours = 26
		for i := range hours * 360 {
			o := pulled("a")
			if i < hours*180 {
				o.Result = cache.ResultMiss
				fetched.Add(3)
			}
			rec.Request(request(), o)
			content.Store(int64(i % 50))
			time.Sleep(watch.FineStep)
			synctest.Wait()
		}
		fine, coarse := rec.History(false), rec.History(true)
		if len(fine) != 360 || len(coarse) != 288 {
			t.Fatalf("%d and %d points, want 360 and 288", len(fine), len(coarse))
		}
		for name, c := range map[string]struct{ got, want watch.Point }{
			"an old step of the day": {coarse[0], watch.Point{Requests: 30, Missed: 30, Served: 30000, Fetched: 90}},
			"a new step of the day":  {coarse[287], watch.Point{Requests: 30, Stored: 30, Served: 30000}},
			"a step of the hour":     {fine[359], watch.Point{Requests: 1, Stored: 1, Served: 1000}},
		} {
			c.want.Time, c.want.Content, c.want.Used, c.want.Free = c.got.Time, c.got.Content, c.got.Content+5, 100-c.got.Content
			if c.got != c.want {
				t.Errorf("%s: %+v, want %+v", name, c.got, c.want)
			}
		}
		if d := fine[359].Time.Sub(fine[0].Time); d != 359*watch.FineStep || fine[359].Content != int64((hours*360-1)%50) {
			t.Errorf("the hour lasts %v, and ends with %+v", d, fine[359])
		}
		if d := coarse[287].Time.Sub(coarse[0].Time); d != 287*watch.CoarseStep {
			t.Errorf("the day lasts %v", d)
		}
		if r, ok := coarse[287].HitRatio(); !ok || r != 1 {
			t.Errorf("the hit ratio is %v, %t", r, ok)
		}
		if _, ok := (watch.Point{}).HitRatio(); ok {
			t.Error("nothing has a hit ratio")
		}
		broken.Store(true)
		time.Sleep(watch.FineStep)
		synctest.Wait()
		if p := rec.History(false)[359]; p.Content != -1 || p.Used != -1 || p.Free != -1 {
			t.Errorf("with a store that fails: %+v", p)
		}
	})
}

// TestHitRatio of all pulls.
func TestHitRatio(t *testing.T) {
	rec := &watch.Recorder{}
	if _, ok := rec.Totals().HitRatio(); ok {
		t.Error("nothing has a hit ratio")
	}
	for i, r := range []cache.Result{cache.ResultHit, cache.ResultChecked, cache.ResultStale, cache.ResultMiss, cache.ResultNone} {
		o := pulled(fmt.Sprint("rule-", i))
		o.Result = r
		rec.Request(request(), o)
	}
	if r, ok := rec.Totals().HitRatio(); !ok || r != 0.75 {
		t.Errorf("%v, %t, want 0.75", r, ok)
	}
}
