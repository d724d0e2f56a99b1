package watch_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/upstream"
)

// request is one of a client.
func request() *http.Request { return httptest.NewRequest(http.MethodGet, "/v2/", nil) }

// pulled is the outcome of a pull that was a hit.
func pulled(rule string) cache.Outcome {
	return cache.Outcome{
		Method: "GET", Access: cache.Access{Kind: cache.AccessManifest, Repository: "local/app"}, Reference: "v1", Rule: rule, Status: 200, Bytes: 1000,
		Duration: 3 * time.Millisecond, FirstByte: 2 * time.Millisecond, Result: cache.ResultHit, CacheState: "hit",
	}
}

// TestBounds: whatever comes, so many rules, hosts and pulls are kept, and no long text.
func TestBounds(t *testing.T) {
	rec := &watch.Recorder{MaxPulls: 10, MaxRules: 5, MaxHosts: 5}
	long := strings.Repeat("ä", 100_000)
	for i := range 100 {
		o := pulled(fmt.Sprintf("rule-%02d", i))
		o.Access.Repository, o.Reference, o.Method, o.Err, o.Status = long, long, long, errors.New(long), 502
		rec.Request(request(), o)
		o.Access.Kind = cache.AccessBlob
		rec.Request(request(), o)
		o.Rule = ""
		rec.Request(request(), o)
		rec.Call(upstream.Call{Source: upstream.Source{Host: fmt.Sprintf("%02d.example.com", i), Repository: long, Rule: "a"}, Op: upstream.Op(fmt.Sprint("op", i)), Status: 100 + i*7, Err: errors.New(long)})
		rec.Call(upstream.Call{Source: upstream.Source{Host: "00.example.com", Repository: "x", Rule: "a"}, Op: upstream.OpBlob, Status: 100 + i*9})
	}
	rules := rec.Rules()
	if len(rules) != 7 || rules[0].Rule != "" || rules[1].Rule != watch.Other || rules[1].Requests() != 2*95 || rules[2].Rule != "rule-00" || rules[2].Requests() != 2 {
		t.Errorf("%d rules: %+v", len(rules), rules)
	}
	if n := rec.Totals().Requests(); n != 300 {
		t.Errorf("%d requests in all, want 300", n)
	}
	hosts := rec.Hosts()
	if len(hosts) != 6 || hosts[0].Host != watch.Other || hosts[1].Host != "00.example.com" {
		t.Errorf("%d hosts: %+v", len(hosts), hosts)
	}
	for _, h := range hosts {
		if len(h.Calls) > 30 {
			t.Errorf("%s has %d counts: %+v", h.Host, len(h.Calls), h.Calls)
		}
		if e := h.LastError; e == nil || len(e.Text) > 600 || len(e.Repository) > 300 || e.Op != "other" {
			t.Errorf("%s: the last error is %+v", h.Host, e)
		}
	}
	for _, k := range []watch.Kind{watch.Images, watch.Blobs, watch.Strangers} {
		pulls := rec.Pulls(watch.Filter{Kinds: []watch.Kind{k}})
		if len(pulls) != 10 {
			t.Errorf("%d pulls of kind %d, want 10", len(pulls), k)
		}
		for _, p := range pulls {
			if len(p.Repository) > 300 || len(p.Reference) > 300 || len(p.Error) > 600 || len(p.Method) > 20 {
				t.Errorf("a pull with long texts: %.1000v", p)
			}
		}
	}
}

// TestAHitAllocatesNothing: neither does a miss. The table of rules is read without a lock.
func TestAHitAllocatesNothing(t *testing.T) {
	rec, req, hit, miss := &watch.Recorder{}, request(), pulled("a"), pulled("b")
	miss.Result = cache.ResultMiss
	rec.Request(req, hit)
	rec.Request(req, miss)
	if n := testing.AllocsPerRun(100, func() { rec.Request(req, hit); rec.Request(req, miss) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	rec := &watch.Recorder{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		req, hit := request(), pulled("a")
		for pb.Next() {
			rec.Request(req, hit)
		}
	})
}

// TestKindsDoNotPushEachOtherOut: a flood by strangers or of blobs hides no pull of an image.
func TestKindsDoNotPushEachOtherOut(t *testing.T) {
	rec := &watch.Recorder{MaxPulls: 5}
	rec.Request(request(), pulled("a"))
	stranger, blob, refused := pulled(""), pulled("a"), pulled("a")
	blob.Access.Kind, refused.Status = cache.AccessBlob, http.StatusForbidden
	for range 20 {
		rec.Request(request(), stranger)
		rec.Request(request(), blob)
		rec.Request(request(), refused)
	}
	if pulls := rec.Pulls(watch.Filter{}); len(pulls) != 1 || pulls[0].Rule != "a" || pulls[0].Client != "192.0.2.1" {
		t.Errorf("%+v", pulls)
	}
	ping := pulled("")
	ping.Access.Kind = cache.AccessPing
	rec.Request(request(), ping)
	for _, p := range rec.Pulls(watch.Filter{Kinds: []watch.Kind{watch.Strangers}}) {
		if p.Kind == cache.AccessPing {
			t.Error("a ping counts as a pull")
		}
	}
	if n := rec.Totals().Requests(); n != 62 {
		t.Errorf("%d requests, want 62", n)
	}
}

// TestFilters: by rule, by trouble, and the newest so many.
func TestFilters(t *testing.T) {
	rec := &watch.Recorder{}
	for i, status := range []int{200, 502, 200, 400} {
		o := pulled([]string{"a", "b"}[i%2])
		o.Status, o.Reference = status, fmt.Sprint("v", i)
		rec.Request(request(), o)
	}
	for name, c := range map[string]struct {
		filter watch.Filter
		want   string
	}{
		"all":        {watch.Filter{}, "v3 v2 v1 v0"},
		"of a rule":  {watch.Filter{Rule: "a"}, "v2 v0"},
		"in trouble": {watch.Filter{Trouble: true}, "v3 v1"},
		"the newest": {watch.Filter{Most: 2}, "v3 v2"},
		"of no kind": {watch.Filter{Kinds: []watch.Kind{-1, 99}}, ""},
		"of blobs":   {watch.Filter{Kinds: []watch.Kind{watch.Blobs}}, ""},
	} {
		var got []string
		for _, p := range rec.Pulls(c.filter) {
			got = append(got, p.Reference)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	b, ok := rec.Rule("b")
	if !ok || b.Trouble == nil || b.Trouble.Reference != "v3" || b.Trouble.Why == "" || b.LastPull.IsZero() || b.Outcomes[watch.Failed] != 1 || b.Bytes != 2000 {
		t.Errorf("%+v", b)
	}
	if _, ok := rec.Rule("c"); ok {
		t.Error("a rule that was not pulled by is known")
	}
	if a, _ := rec.Rule("a"); a.Trouble != nil {
		t.Errorf("%+v", a)
	}
}

// TestOutcomes: each answer has one outcome.
func TestOutcomes(t *testing.T) {
	reason := errors.New("the reason")
	for _, c := range []struct {
		status int
		result cache.Result
		detail string
		err    error
		want   watch.Outcome
	}{
		{200, cache.ResultHit, "", nil, watch.Hit},
		{304, cache.ResultChecked, "unchanged", nil, watch.Checked},
		{206, cache.ResultMiss, "", nil, watch.Miss},
		{200, cache.ResultStale, "timeout", nil, watch.Stale},
		{200, cache.ResultNone, "", nil, watch.Served},
		{404, cache.ResultMiss, "", reason, watch.Absent},
		{504, cache.ResultNone, "only-if-cached", reason, watch.Absent},
		{504, cache.ResultMiss, "timeout", reason, watch.Failed},
		{403, cache.ResultMiss, "", reason, watch.Refused},
		{429, cache.ResultNone, "refused", reason, watch.Refused},
		{502, cache.ResultMiss, "unreachable", reason, watch.Failed},
		{200, cache.ResultMiss, "", reason, watch.Failed},
		{0, cache.ResultHit, "", nil, watch.Failed},
		{200, cache.ResultMiss, "", fmt.Errorf("sending: %w", context.Canceled), watch.Left},
		{499, cache.ResultMiss, "", context.Canceled, watch.Left},
	} {
		o := cache.Outcome{Status: c.status, Result: c.result, Detail: c.detail, Err: c.err}
		if got := watch.OutcomeOf(request(), o); got != c.want {
			t.Errorf("%+v: %s, want %s", c, got, c.want)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if got := watch.OutcomeOf(request().WithContext(ctx), cache.Outcome{Status: 200, Result: cache.ResultMiss, Err: reason}); got != watch.Left {
		t.Errorf("of a client that left: %s", got)
	}
	if got := watch.OutcomeOf(nil, cache.Outcome{Status: 200, Err: reason}); got != watch.Failed {
		t.Errorf("without a request: %s", got)
	}
	if len(watch.Outcomes()) != 9 {
		t.Error(watch.Outcomes())
	}
}

// TestManyAtOnce: nothing is lost when many record and read at once.
func TestManyAtOnce(t *testing.T) {
	rec := &watch.Recorder{MaxPulls: 8}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 500 {
				o := pulled(fmt.Sprint("rule-", (i+j)%20))
				rec.Request(request(), o)
				rec.Call(upstream.Call{Source: upstream.Source{Host: fmt.Sprint("h", j%5)}, Op: upstream.OpBlob, Status: 200, Bytes: 1})
				if j%100 == 0 {
					rec.Pulls(watch.Filter{})
					rec.Rules()
					rec.Hosts()
				}
			}
		})
	}
	all.Wait()
	if n := rec.Totals().Requests(); n != 4000 {
		t.Errorf("%d requests, want 4000", n)
	}
	var bytes int64
	for _, h := range rec.Hosts() {
		bytes += h.Bytes
	}
	if bytes != 4000 || len(rec.Pulls(watch.Filter{})) != 8 {
		t.Errorf("%d bytes, %d pulls", bytes, len(rec.Pulls(watch.Filter{})))
	}
	upTo, count, sum := rec.FirstByte(watch.Hit).Read()
	if count != 4000 || sum != 8*time.Second || upTo[0] != 0 || upTo[1] != 4000 || len(upTo) != len(watch.Bounds()) {
		t.Errorf("first bytes: %v, %d, %v", upTo, count, sum)
	}
}
