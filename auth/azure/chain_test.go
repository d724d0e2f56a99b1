package azure_test

import (
	"crypto/rand"
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
	"github.com/pullthrough/pullthrough/upstream"
)

const dev = "dev.azurecr.io"

// scene is a registry and identities, asked through the real upstream client.
type scene struct {
	*fake
	ids *azure.Identities
	up  *upstream.Client
}

func newScene(t *testing.T) *scene {
	f := newFake(t)
	ids, err := azure.NewIdentities(f.options())
	if err != nil {
		t.Fatal(err)
	}
	return &scene{f, ids, &upstream.Client{Transport: f}}
}

// identity assigns an identity of its own: the SDK keeps tokens by resource id
// for the whole process.
func (s *scene) identity(repositories ...string) *azure.UserAssigned {
	s.t.Helper()
	id := armID(rand.Text())
	if err := s.ids.Assign(id); err != nil {
		s.t.Fatal(err)
	}
	u, err := s.ids.UserAssigned(id)
	if err != nil {
		s.t.Fatal(err)
	}
	s.set(func() {
		for _, r := range repositories {
			s.grants[u.ResourceID()+" "+r] = true
		}
	})
	return u
}

func (s *scene) pull(rule, repository string, a auth.Authenticator) error {
	r, err := s.up.Open(upstream.Source{Rule: rule, Host: dev, Repository: repository}, a)
	if err != nil {
		return err
	}
	_, _, err = r.Manifest(s.t.Context(), "v1")
	return err
}

func (s *scene) want(what string, kinds ...any) {
	s.t.Helper()
	for i := 0; i < len(kinds); i += 2 {
		if got := s.count(kinds[i].(string)); got != kinds[i+1] {
			s.t.Errorf("%s: %d calls of %s, want %d", what, got, kinds[i], kinds[i+1])
		}
	}
}

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
	s.want("50 at once", "imds", 1, "exchange", 1, "token", 1)
}

// Two rules never share what they earned, whether their identities differ or
// not; the Entra token of one identity is the SDK's.
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
	s.want("two identities", "imds", 2, "exchange", 2)
	if err := s.pull("rule-c", "team-a/api", a); err != nil {
		t.Fatal(err)
	}
	s.want("a third rule with the first identity", "imds", 2, "exchange", 3)
}

// After a swap no token of the former identity is presented.
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

func TestNotTheMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		u := s.identity("team-a/api")
		s.set(func() { s.gone[u.ResourceID()] = true })
		for range 3 {
			err := s.pull("rule", "team-a/api", u)
			denied(t, err, u.ResourceID(), "does not exist or is not associated with this registry")
			if !errors.Is(err, azure.ErrNotAssigned) {
				t.Errorf("%v", err)
			}
		}
		s.want("remembered", "imds", 1, "exchange", 0)
		s.set(func() { s.gone = map[string]bool{} })
		time.Sleep(6 * time.Second)
		if err := s.pull("rule", "team-a/api", u); err != nil {
			t.Errorf("attached again: %v", err)
		}
	})
}

func TestAnotherTenant(t *testing.T) {
	s := newScene(t)
	s.set(func() { s.tenant = other })
	denied(t, s.pull("rule", "team-a/api", s.identity("team-a/api")), home, other, "one tenant")
	s.want("nothing was sent", "exchange", 0, "v2", 0)
}

// What passes is told as such, and is no trouble of those who come later.
func TestTroubleThatPasses(t *testing.T) {
	for _, c := range []struct {
		kind  string
		fault http.HandlerFunc
		after time.Duration
	}{
		{"imds", status(429, "Retry-After", "7"), 7 * time.Second},
		{"imds", status(503), 0}, {"imds", status(404), 0},
		{"exchange", status(429, "Retry-After", "9"), 9 * time.Second},
		{"exchange", status(500), 0},
		{"exchange", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{")) }, 0},
		{"exchange", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2<<20)) }, 0},
		{"exchange", status(307, "Location", "https://evil.example/oauth2/exchange"), 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			u := s.identity("team-a/api")
			s.set(func() { s.fail[c.kind] = c.fault })
			for range 3 {
				err := s.pull("rule", "team-a/api", u)
				later, ok := errors.AsType[*auth.UnavailableError](err)
				if class, _ := upstream.ClassOf(err); !ok || class != upstream.Unreachable || later.RetryAfter != c.after {
					t.Errorf("%s: %v", c.kind, err)
				}
			}
			s.want("remembered for a moment", c.kind, 1, "other", 0)
			s.set(func() { delete(s.fail, c.kind) })
			time.Sleep(10 * time.Second)
			if err := s.pull("rule", "team-a/api", u); err != nil {
				t.Errorf("%s: healed: %v", c.kind, err)
			}
		})
	}
}

func TestFirewall(t *testing.T) {
	for _, kind := range []string{"exchange", "token", "v2"} {
		s := newScene(t)
		u := s.identity("team-a/api")
		s.set(func() { s.fail[kind] = status(403) })
		denied(t, s.pull("rule", "team-a/api", u), "client IP 203.0.113.7", u.ResourceID(), dev)
	}
}

// A refresh token lives as long as it says, is renewed behind the requests, and
// is thrown away when the registry refuses it.
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
		s.set(func() { s.fail["exchange"] = status(503) })
		if get().Version != first.Version {
			t.Error("a failure to renew threw away a token that is good")
		}
		s.set(func() { delete(s.fail, "exchange") })
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

// The registry forgets every token, as when its keys are changed: one pull
// heals it, with a new Entra token if need be.
func TestTokensThatTheRegistryForgot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		u := s.identity("team-a/api")
		if err := s.pull("rule", "team-a/api", u); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s.set(func() { s.valid = map[string]string{} })
		if err := s.pull("rule", "team-a/api", u); err != nil {
			t.Errorf("%v", err)
		}
		s.want("forced", "imds", 2, "exchange", 3)
	})
}

// TestNoSecretInErrors walks every failure and looks for every token in all
// that can be printed.
func TestNoSecretInErrors(t *testing.T) {
	for _, kind := range []string{"imds", "exchange", "token", "v2"} {
		for _, code := range []int{200, 302, 400, 401, 403, 404, 429, 500} {
			s := newScene(t)
			u := s.identity("team-a/api")
			var seen []string
			s.set(func() {
				s.fail[kind] = func(w http.ResponseWriter, r *http.Request) {
					s.mu.Lock()
					for token := range s.valid {
						seen = append(seen, token)
					}
					s.mu.Unlock()
					echo := "leaked-secret " + r.Header.Get("Authorization") + r.PostForm.Encode()
					refuse(w, code, "DENIED", echo)
				}
			})
			err := s.pull("rule", "team-a/api", u)
			if err == nil {
				t.Errorf("%s %d: no error", kind, code)
				continue
			}
			var text strings.Builder
			for e := err; e != nil; e = errors.Unwrap(e) {
				fmt.Fprintf(&text, "%v %+v %#v %q\n", e, e, e, e)
			}
			fmt.Fprintf(&text, "%v %+v %#v", u, u, u)
			for _, secret := range append(seen, "leaked-secret", "secretsignature") {
				if strings.Contains(text.String(), secret) {
					t.Errorf("%s %d: %.20q is in %v, or in what it wraps", kind, code, secret, err)
				}
			}
		}
	}
}
