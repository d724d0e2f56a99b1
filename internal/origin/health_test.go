package origin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

// TestWhose walks the table of blame.
func TestWhose(t *testing.T) {
	type e = upstream.Error
	for name, c := range map[string]struct {
		err  e
		want blame
	}{
		"no connection":                        {e{Class: upstream.Unreachable, Connect: true}, ofTheHost},
		"a connection that breaks":             {e{Class: upstream.Unreachable}, ofTheRepository},
		"5xx":                                  {e{Class: upstream.Unreachable, Status: 502}, ofTheRepository},
		"slow":                                 {e{Class: upstream.Unreachable, Timeout: true}, ofTheRule},
		"429":                                  {e{Class: upstream.Limited, Status: 429}, ofTheRule},
		"404":                                  {e{Class: upstream.NotFound, Status: 404}, itAnswers},
		"403":                                  {e{Class: upstream.Denied, Status: 403}, itAnswers},
		"an answer that cannot be used":        {e{Class: upstream.Protocol, Status: 200}, ofNobody},
		"a loop":                               {e{Class: upstream.Unreachable, Status: http.StatusLoopDetected}, ofNobody},
		"the caller's doing":                   {e{Class: upstream.Unreachable, Owner: upstream.Caller, Connect: true}, ofNobody},
		"this side's doing":                    {e{Class: upstream.Unreachable, Owner: upstream.Ours, Connect: true}, ofNobody},
		"where a redirect leads":               {e{Class: upstream.Unreachable, Owner: upstream.Elsewhere, Connect: true}, ofNobody},
		"a token server that is down":          {e{Class: upstream.Unreachable, Owner: upstream.Issuer, Connect: true}, ofTheRule},
		"a token server that refuses":          {e{Class: upstream.Denied, Owner: upstream.Issuer, Status: 401}, ofNobody},
		"a credential that cannot be had now":  {e{Class: upstream.Denied, Err: &auth.UnavailableError{}}, ofTheRule},
		"an authenticator that takes too long": {e{Class: upstream.Unreachable, Owner: upstream.Authenticator, Timeout: true}, ofTheRule},
	} {
		if got := whose(&c.err); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// repos are Repos of a set of rules whose upstreams are never asked.
func repos(t *testing.T, ctx context.Context, rules ...rule.Rule) func(name string) Repo {
	t.Helper()
	set, err := rule.NewSet(rules...)
	if err != nil {
		t.Fatal(err)
	}
	o := New(Config{Rules: set, Upstream: &upstream.Client{}, ID: "here", MaxHops: 3, Requests: 8, RequestsPerHost: 8,
		AnswerTimeout: time.Second, SlotTimeout: time.Second, Ended: ctx, Log: slog.New(slog.DiscardHandler)})
	return func(name string) Repo {
		r, err := o.Find(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func twoRules(t *testing.T, ctx context.Context) func(name string) Repo {
	return repos(t, ctx, rule.Rule{Name: "a", Source: "registry.example.com/a/*", Target: "a/*"},
		rule.Rule{Name: "b", Source: "registry.example.com/b/*", Target: "b/*"},
		rule.Rule{Name: "c", Source: "other.example.com/c/*", Target: "c/*"})
}

// TestTroubleOfOthers: which trouble of a/x holds back which repositories.
func TestTroubleOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		err  upstream.Error
		down string
	}{
		"of the host":       {upstream.Error{Class: upstream.Unreachable, Connect: true}, "a/x a/y b/x"},
		"of the rule":       {upstream.Error{Class: upstream.Limited, Status: 429}, "a/x a/y"},
		"of the repository": {upstream.Error{Class: upstream.Unreachable, Status: 503}, "a/x"},
		"of nobody":         {upstream.Error{Class: upstream.Protocol}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			repo := twoRules(t, t.Context())
			repo("a/x").Heard(&c.err)
			var down []string
			for _, name := range []string{"a/x", "a/y", "b/x", "c/x"} {
				if err, _ := repo(name).Down(); err != nil {
					down = append(down, name)
				}
			}
			if got := strings.Join(down, " "); got != c.down {
				t.Errorf("down are %q, want %q", got, c.down)
			}
			repo("a/x").Heard(nil)
			if err, _ := repo("a/x").Down(); err != nil {
				t.Errorf("an answer does not end it: %v", err)
			}
		})
	}
}

// TestOneProbe: of many that want to know whether an upstream is back, one each second
// may ask; and a 429 ends by itself when its time is over.
func TestOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		repo := twoRules(t, t.Context())
		r := repo("a/x")
		r.Heard(&upstream.Error{Class: upstream.Unreachable, Connect: true})
		if _, probe := r.Down(); probe {
			t.Error("it is asked at once")
		}
		for range 3 {
			time.Sleep(probeEvery)
			probes := 0
			for range 10 {
				if err, probe := r.Down(); err == nil {
					t.Error("it is back by itself")
				} else if probe {
					probes++
				}
			}
			if probes != 1 {
				t.Errorf("%d probes", probes)
			}
		}
		r = repo("c/x")
		r.Heard(&upstream.Error{Class: upstream.Limited, RetryAfter: time.Minute})
		if r.Barred() == nil {
			t.Error("a 429 does not bar")
		}
		time.Sleep(time.Minute)
		if err, _ := r.Down(); err != nil || r.Barred() != nil {
			t.Errorf("after a minute: %v, %v", err, r.Barred())
		}
	})
}

// TestWhatTellsNothing: what a client's words or its leaving cause tells nothing about an
// upstream.
func TestWhatTellsNothing(t *testing.T) {
	repo := twoRules(t, t.Context())
	down := &upstream.Error{Class: upstream.Unreachable, Connect: true}
	repo("a/x").Via("other, here").Heard(down)
	repo("a/x").Heard(errors.New("something else"))
	repo("a/x").Heard(fmt.Errorf("%w: %w", context.Canceled, down))
	if err, _ := repo("a/x").Down(); err != nil {
		t.Error(err)
	}
}

// TestAbsent: a digest that the upstream does not have is asked for three times a second.
func TestAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := twoRules(t, t.Context())("a/x"), digest.FromString("x")
		missing := &upstream.Error{Class: upstream.NotFound, Status: 404}
		for n := range absentTimes {
			if r.Absent(Blob, d) != nil {
				t.Errorf("it is remembered after %d times", n)
			}
			r.HeardBlob(d, missing)
		}
		if r.Absent(Blob, d) == nil || r.Absent(Manifest, d) != nil {
			t.Errorf("blob %v, manifest %v", r.Absent(Blob, d), r.Absent(Manifest, d))
		}
		time.Sleep(absentTime)
		if err := r.Absent(Blob, d); err != nil {
			t.Error(err)
		}
	})
}

// TestPassed: what CDN-Loop says of a request.
func TestPassed(t *testing.T) {
	r := twoRules(t, t.Context())("a/x")
	for header, want := range map[string]string{
		"":                       "",
		"other":                  "other, here",
		"one; q=1, two":          "one, two, here",
		"a cache, <x>":           "",
		"other, here":            ErrLoop.Error(),
		"one, two, three":        ErrTooManyHops.Error(),
		strings.Repeat("x", 129): "",
	} {
		got, err := r.origins.Passed(http.Header{"Cdn-Loop": {header}})
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.20q: %q, want %q", header, got, want)
		}
	}
}

// TestGone: a Repo is not asked when its rule is gone, has another source, or cannot be
// looked up.
func TestGone(t *testing.T) {
	set, err := rule.NewSet(rule.Rule{Name: "a", Source: "registry.example.com/a/*", Target: "a/*"})
	if err != nil {
		t.Fatal(err)
	}
	m := &failing{Matcher: set}
	o := New(Config{Rules: m, Upstream: &upstream.Client{}, ID: "here", MaxHops: 3, Requests: 1, RequestsPerHost: 1,
		AnswerTimeout: time.Second, SlotTimeout: time.Second, Ended: t.Context(), Log: slog.New(slog.DiscardHandler)})
	r, err := o.Find(t.Context(), "a/x")
	if err != nil || r.Still(t.Context()) != nil {
		t.Fatal(err)
	}
	m.err = errors.New("the database is down")
	if err := r.Still(t.Context()); !errors.Is(err, ErrRules) || errors.Is(err, ErrGone) {
		t.Error(err)
	}
	known, err := o.Find(t.Context(), "a/x") // it was matched before
	if err != nil || known.From != r.From || known.Barred() == nil {
		t.Errorf("%+v, %v", known, err)
	}
	if _, err := o.Find(t.Context(), "a/y"); !errors.Is(err, ErrRules) {
		t.Error(err)
	}
	m.err = rule.ErrNoMatch
	if err := r.Still(t.Context()); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	if plain, err := o.Find(t.Context(), "a/x"); err != nil || plain.Covered() || !plain.MayServe("https://anywhere.example.com/x") {
		t.Errorf("%+v, %v", plain, err)
	}
	if _, err := o.FindSource(t.Context(), "registry.example.com", "a/x"); !errors.Is(err, ErrNoSources) {
		t.Error(err)
	}
}

// failing is a Matcher that fails with err.
type failing struct {
	rule.Matcher
	err error
}

func (f *failing) Match(ctx context.Context, repository string) (*rule.Match, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.Matcher.Match(ctx, repository)
}
