package upstream_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestRateLimitsAreTold: what is left of a budget is in the Call and reaches the
// function of the context, also with a refusal, and rules with the same credential have
// the same account.
func TestRateLimitsAreTold(t *testing.T) {
	s := newSide(t)
	l := listen(s)
	s.up.AddImage("a", "v1", nil)
	s.up.RequireLogin(users, nil)
	s.up.LimitPulls(2, time.Hour)
	var told []upstream.RateLimit
	ctx := upstream.WithRateLimits(t.Context(), func(r upstream.RateLimit) { told = append(told, r) })
	alice := keeper{cred: password("alice", "hunter2")}
	for _, rule := range []string{"one", "other", "one"} {
		_, _, _ = s.as(rule, "a", &alice).Manifest(ctx, "v1")
	}
	if _, err := s.as("one", "a", &alice).Resolve(ctx, "v1"); err != nil {
		t.Error("a HEAD is no pull:", err)
	}
	account := told[0].Account
	for i, want := range []int{1, 0, 0, 0} {
		if r := (upstream.RateLimit{Host: s.up.Host(), Limit: 2, Remaining: want, Window: time.Hour, Source: "account-alice", Account: account}); told[i] != r {
			t.Errorf("%+v, want %+v", told[i], r)
		}
	}
	var calls []upstream.RateLimit
	for i, c := range l.all() {
		if (c.Status == http.StatusTooManyRequests) != (i == 2) || c.RateLimit == nil {
			t.Fatalf("call %d: %+v", i, c)
		}
		calls = append(calls, *c.RateLimit)
	}
	if !slices.Equal(calls, told) {
		t.Errorf("calls %+v, told %+v", calls, told)
	}
	if account == "" || len(account) > 64 {
		t.Errorf("the account is %q", account)
	}
	s.up.LimitPulls(-1, 0)
	if _, _, err := s.as("one", "a", &alice).Manifest(ctx, "v1"); err != nil || len(told) != 4 || l.all()[0].RateLimit != nil {
		t.Errorf("%v; a response without limits was told: %+v", err, told)
	}
}

// TestRateLimitsOfOthers: what the target of a redirect says is nobody's budget here, and
// a source that repeats a secret is not shown.
func TestRateLimitsOfOthers(t *testing.T) {
	s := newSide(t)
	other := upstreamtest.NewRegistry(t)
	s.client = s.up.Client(other)
	l := listen(s)
	s.up.RequireBasic(users)
	img := other.AddImage("a", "v1", nil)
	other.LimitPulls(2, time.Hour)
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Redirect: other.URL() + "/v2/a/manifests/v1", Times: 1})
	var who auth.Authenticator = &keeper{cred: password("alice", "hunter2")}
	if desc, _, err := s.as("rule", "a", who).Manifest(t.Context(), "v1"); err != nil || desc.Digest != img.Digest {
		t.Fatal(err)
	}
	if c := l.all()[0]; c.RateLimit != nil {
		t.Errorf("the target of a redirect told %+v", c.RateLimit)
	}
	s.up.AddImage("a", "v1", nil)
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Do: func(w http.ResponseWriter, r *http.Request) {
		_, secret, _ := r.BasicAuth()
		w.Header().Set("Ratelimit-Remaining", "7")
		w.Header().Set("Docker-Ratelimit-Source", secret)
		if secret == "" {
			w.Header().Set("Www-Authenticate", `Basic realm="here"`)
		}
		w.WriteHeader(http.StatusUnauthorized)
	}})
	_, _, _ = s.as("rule", "a", who).Manifest(t.Context(), "v1")
	c := l.all()[0]
	if c.RateLimit == nil || c.RateLimit.Remaining != 7 || c.RateLimit.Source != "" {
		t.Errorf("%+v", c.RateLimit)
	}
}
