package azure_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/upstream"
)

func denied(t *testing.T, err error, words ...string) {
	t.Helper()
	d, ok := errors.AsType[*auth.DeniedError](err)
	if !ok {
		t.Fatalf("%v is no DeniedError", err)
	}
	for _, w := range words {
		if !strings.Contains(d.Reason, w) {
			t.Errorf("the reason does not say %q: %s", w, d.Reason)
		}
	}
}

func TestFiftyColdRequests(t *testing.T) {
	s := newScene(t)
	u := s.identity("team-a/api")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := s.pull("promote", "team-a/api", u); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.want("50 at once", azuretest.IMDS, 1, azuretest.Exchange, 1, azuretest.Token, 1)
}

// TestManyRulesOfOneIdentity: rules with one identity that begin together send IMDS one
// request, and the registry one each. They share a failure too.
func TestManyRulesOfOneIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		first := s.identity("team-a/api")
		s.Fail(azuretest.IMDS, azuretest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second) // until all rules wait
			w.WriteHeader(http.StatusServiceUnavailable)
		}})
		all := func(from int) {
			var wg sync.WaitGroup
			for n := range 20 {
				u, err := s.ids.UserAssigned(first.ResourceID())
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					if err := s.pull(fmt.Sprint("rule-", from+n), "team-a/api", u); (err == nil) != (from > 0) {
						t.Errorf("%v", err)
					}
				})
			}
			wg.Wait()
		}
		all(0)
		s.want("20 rules at once", azuretest.IMDS, 1, azuretest.Exchange, 0)
		s.Heal()
		all(20)
		s.want("and 20 more", azuretest.IMDS, 2, azuretest.Exchange, 20)
	})
}

// TestRulesShareNoTokens: two rules never share a refresh token, whether their identities
// differ or not. The SDK caches the Entra token of one identity.
func TestRulesShareNoTokens(t *testing.T) {
	s := newScene(t)
	a, b := s.identity("team-a/api"), s.identity("team-b/api")
	for range 2 {
		if err := s.pull("rule-a", "team-a/api", a); err != nil {
			t.Fatal(err)
		}
		if err := s.pull("rule-b", "team-b/api", b); err != nil {
			t.Fatal(err)
		}
		denied(t, s.pull("rule-a", "team-b/api", a), a.ResourceID(), "AcrPull", "team-b/api")
		denied(t, s.pull("rule-b", "team-a/api", b), b.ResourceID(), "Repository Reader")
	}
	s.want("two identities", azuretest.IMDS, 2, azuretest.Exchange, 2)
	if err := s.pull("rule-c", "team-a/api", a); err != nil {
		t.Fatal(err)
	}
	s.want("a third rule with the first identity", azuretest.IMDS, 2, azuretest.Exchange, 3)
}

// TestSwap: after a swap no token of the former identity is sent.
func TestSwap(t *testing.T) {
	s := newScene(t)
	a, b := s.identity("team-a/api"), s.identity()
	if err := s.pull("rule", "team-a/api", a); err != nil {
		t.Fatal(err)
	}
	denied(t, s.pull("rule", "team-a/api", b), b.ResourceID())
	if err := s.pull("rule", "team-a/api", a); err != nil {
		t.Errorf("swapped back: %v", err)
	}
}

func TestIdentityThatTheMachineLacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		u := s.identity("team-a/api")
		s.behind[u].Detach()
		for range 3 {
			err := s.pull("rule", "team-a/api", u)
			denied(t, err, u.ResourceID(), "does not exist or is not associated with this registry")
			if !errors.Is(err, azure.ErrNotAssigned) {
				t.Errorf("%v", err)
			}
		}
		s.want("remembered", azuretest.IMDS, 1, azuretest.Exchange, 0)
		s.behind[u].Attach()
		time.Sleep(6 * time.Second)
		if err := s.pull("rule", "team-a/api", u); err != nil {
			t.Errorf("attached again: %v", err)
		}
	})
}

func TestAnotherTenant(t *testing.T) {
	s := newScene(t)
	u := s.assign(s.NewIdentityIn(other, "foreign"), "team-a/api")
	denied(t, s.pull("rule", "team-a/api", u), s.TenantID(), other, "one tenant")
	s.want("nothing was sent", azuretest.Exchange, 0, azuretest.Token, 0)
}

// TestTemporaryFailures: a temporary failure is an UnavailableError, and later requests
// succeed.
func TestTemporaryFailures(t *testing.T) {
	for _, c := range []struct {
		at    azuretest.Endpoint
		fault azuretest.Fault
		after time.Duration
	}{
		{azuretest.IMDS, status(429, "Retry-After", "7"), 7 * time.Second},
		{azuretest.IMDS, status(503), 0}, {azuretest.IMDS, status(404), 0}, {azuretest.IMDS, body(strings.Repeat("x", 2<<20)), 0},
		{azuretest.Exchange, status(429, "Retry-After", "9"), 9 * time.Second},
		{azuretest.Exchange, status(500), 0},
		{azuretest.Exchange, body("{"), 0},
		{azuretest.Exchange, body(strings.Repeat("x", 2<<20)), 0},
		{azuretest.Exchange, status(307, "Location", "https://evil.example/oauth2/exchange"), 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			u := s.identity("team-a/api")
			s.Fail(c.at, c.fault)
			for range 3 {
				err := s.pull("rule", "team-a/api", u)
				later, ok := errors.AsType[*auth.UnavailableError](err)
				if class, _ := upstream.ClassOf(err); !ok || class != upstream.Unreachable || later.RetryAfter != c.after {
					t.Errorf("%s: %v", c.at, err)
				}
			}
			s.want("remembered for a moment", c.at, 1)
			if len(s.Refused()) > 0 {
				t.Errorf("%s: somebody went to %v", c.at, s.Refused())
			}
			s.Heal()
			time.Sleep(10 * time.Second)
			if err := s.pull("rule", "team-a/api", u); err != nil {
				t.Errorf("%s: healed: %v", c.at, err)
			}
		})
	}
}

func TestFirewall(t *testing.T) {
	for _, at := range []azuretest.Endpoint{azuretest.Exchange, azuretest.Token, azuretest.V2} {
		s := newScene(t)
		u := s.identity("team-a/api")
		s.Fail(at, status(403))
		denied(t, s.pull("rule", "team-a/api", u), "client IP 203.0.113.7", u.ResourceID(), dev)
	}
	s := newScene(t)
	u := s.identity("team-a/api")
	s.registry.SetFirewall("203.0.113.7")
	denied(t, s.pull("rule", "team-a/api", u), "client IP 203.0.113.7", u.ResourceID(), dev)
}

// TestRenewal: a refresh token is used for its own lifetime, renewed in the background, and
// discarded when the registry refuses it.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		u := s.identity("team-a/api")
		get := func() auth.Credential {
			c, err := u.Credential(t.Context(), auth.Request{Rule: "r", Host: dev, Repository: "team-a/api"})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return c
		}
		first := get()
		if left := time.Until(first.Expires); left != 3*time.Hour {
			t.Errorf("it lives %v", left)
		}
		time.Sleep(2*time.Hour + 54*time.Minute)
		if get().Version != first.Version {
			t.Error("renewed too early")
		}
		time.Sleep(2 * time.Minute)
		s.Fail(azuretest.Exchange, status(503))
		if get().Version != first.Version {
			t.Error("a failure to renew threw away a token that is good")
		}
		s.Heal()
		time.Sleep(2 * time.Second)
		if get().Version != first.Version {
			t.Error("renewal is on somebody's way")
		}
		second := get()
		if second.Version == first.Version {
			t.Error("it was not renewed")
		}
		u.Invalidate(auth.Request{Rule: "r", Host: dev}, second)
		if get().Version != second.Version {
			t.Error("a token that is new was thrown away")
		}
		time.Sleep(11 * time.Second)
		u.Invalidate(auth.Request{Rule: "r", Host: dev}, first)
		if get().Version != second.Version {
			t.Error("the refusal of an old token threw the new one away")
		}
		u.Invalidate(auth.Request{Rule: "r", Host: dev}, second)
		if get().Version == second.Version {
			t.Error("a refused token is still used")
		}
	})
}

// TestTokensThatTheRegistryForgot: a registry forgets every token, as when its keys are
// changed. The next pull gets new ones, with a new Entra token if need be.
func TestTokensThatTheRegistryForgot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		u := s.identity("team-a/api")
		if err := s.pull("rule", "team-a/api", u); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s.registry.ForgetTokens()
		s.behind[u].RevokeTokens()
		if err := s.pull("rule", "team-a/api", u); err != nil {
			t.Errorf("%v", err)
		}
		s.want("forced", azuretest.IMDS, 2, azuretest.Exchange, 3)
	})
}

// TestNoSecretInErrors causes every failure and looks for every secret in all that can be
// printed.
func TestNoSecretInErrors(t *testing.T) {
	for _, at := range []azuretest.Endpoint{azuretest.IMDS, azuretest.Exchange, azuretest.Token, azuretest.V2} {
		for _, code := range []int{200, 302, 400, 401, 403, 404, 429, 500} {
			s := newScene(t)
			u := s.identity("team-a/api")
			s.Fail(at, azuretest.Fault{Do: func(w http.ResponseWriter, r *http.Request) {
				echo, _ := json.Marshal("leaked-secret " + r.Header.Get("Authorization") + r.PostForm.Encode())
				w.WriteHeader(code)
				_, _ = fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%s}]}`, echo)
			}})
			err := s.pull("rule", "team-a/api", u)
			if err == nil {
				t.Errorf("%s %d: no error", at, code)
				continue
			}
			var text strings.Builder
			for e := err; e != nil; e = errors.Unwrap(e) {
				fmt.Fprintf(&text, "%v %+v %#v %q\n", e, e, e, e)
			}
			fmt.Fprintf(&text, "%v %+v %#v", u, u, u)
			s.wantNoSecret(fmt.Sprint(at, code), text.String())
			if strings.Contains(text.String(), "leaked-secret") {
				t.Errorf("%s %d: the answer is in %v, or in what it wraps", at, code, err)
			}
		}
	}
}

// TestClockSkew: the clocks of Azure and of this machine may differ, since a token is used
// for the difference of its own two times.
func TestClockSkew(t *testing.T) {
	for _, skew := range []time.Duration{-4 * time.Hour, 4 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			s.SetSkew(skew)
			u := s.identity("team-a/api")
			for range 3 {
				if err := s.pull("rule", "team-a/api", u); err != nil {
					t.Fatalf("%v: %v", skew, err)
				}
				time.Sleep(time.Hour)
			}
			s.want("for two hours", azuretest.Exchange, 1)
			c, err := s.credential(u)
			if left := time.Until(c.Expires); err != nil || left != 3*time.Hour {
				t.Errorf("%v: it lives %v, %v", skew, left, err)
			}
		})
	}
}

// TestRevokedAtTheSource: a role that is revoked or assigned at the source takes effect when
// the tokens that were issued before have expired.
func TestRevokedAtTheSource(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			s.registry.SetRefuseTokens(refuses)
			u := s.identity("team-a/api")
			if err := s.pull("rule", "team-a/api", u); err != nil {
				t.Fatal(err)
			}
			s.registry.Revoke(s.behind[u].PrincipalID)
			if err := s.pull("rule", "team-a/api", u); err != nil {
				t.Errorf("an access token outlives the role: %v", err)
			}
			time.Sleep(76 * time.Minute)
			denied(t, s.pull("rule", "team-a/api", u), u.ResourceID(), "team-a/api")
			s.registry.Grant(s.behind[u].PrincipalID, "team-a/api")
			time.Sleep(time.Minute)
			if err := s.pull("rule", "team-a/api", u); err != nil {
				t.Errorf("granted again: %v", err)
			}
		})
	}
}
