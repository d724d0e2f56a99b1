package azure_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// exchanged returns authenticators that exchange tokens of Entra, with access to both
// repositories.
func exchanged(s *scene) map[string]auth.Authenticator {
	s.t.Helper()
	app := s.NewServicePrincipal("")
	s.registry.Grant(app.PrincipalID)
	sp, err := azure.NewServicePrincipal(s.options(), s.TenantID(), app.ClientID, secretOf{app})
	if err != nil {
		s.t.Fatal(err)
	}
	return map[string]auth.Authenticator{"identity": s.identity("team-a/api", "team-b/api"), "principal": sp}
}

// TestTokenThatWorkedIsRenewedAtOnce: a token that the registry accepted and then
// refuses is renewed within the same pull, as often as that happens, while the
// clock stands still.
func TestTokenThatWorkedIsRenewedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		refuse       func(*scene)
		repositories []string // one pull each
		exchanges    int      // after each refusal
	}{
		"the registry forgets":              {func(s *scene) { s.registry.ForgetTokens() }, []string{"team-a/api", "team-a/api", "team-a/api"}, 1},
		"another repository notices":        {func(s *scene) { s.registry.ForgetTokens() }, []string{"team-a/api", "team-b/api", "team-a/api"}, 1},
		"the token server says 400":         {refuseOnce(400), []string{"team-b/api", "team-b/api"}, 1},
		"the token server says 401":         {refuseOnce(401), []string{"team-a/api", "team-b/api", "team-b/api", "team-a/api"}, 1},
		"the token of Entra is refused too": {func(s *scene) { refuseOnce(401)(s); s.Fail(azuretest.Exchange, azuretest.Fault{Status: 401, Times: 1}) }, []string{"team-a/api", "team-a/api"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				for who, a := range exchanged(s) {
					s.Reset()
					for i, repository := range c.repositories {
						if i > 0 {
							c.refuse(s)
						}
						if err := s.pull(who, repository, a); err != nil {
							t.Errorf("%s, pull %d: %v", who, i, err)
						}
						s.want(who, azuretest.Exchange, 1+i*c.exchanges)
					}
				}
				time.Sleep(time.Hour) // background work of the SDK, if any, has ended
			})
		})
	}
}

// refuseOnce makes every access token invalid, and the token server refuse the next
// request.
func refuseOnce(code int) func(*scene) {
	return func(s *scene) {
		s.registry.ForgetTokens()
		s.Fail(azuretest.Token, azuretest.Fault{Status: code, Times: 1})
	}
}

// TestTokenThatNeverWorkedWaits: a registry that refuses everything causes one
// exchange in 10 seconds, however many pulls there are.
func TestTokenThatNeverWorkedWaits(t *testing.T) {
	for name, refuse := range map[string]func(*scene){
		"the token server says 400": func(s *scene) { s.Fail(azuretest.Token, azuretest.Fault{Status: 400}) },
		"the token server says 401": func(s *scene) { s.Fail(azuretest.Token, azuretest.Fault{Status: 401}) },
		"the registry says 401":     func(s *scene) { s.Fail(azuretest.V2, azuretest.Fault{Status: 401}) },
		"the role is missing":       func(s *scene) { s.revokeAll() },
		"it is refused by rights":   func(s *scene) { s.revokeAll(); s.registry.SetRefuseTokens(true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				a := s.identity("team-a/api")
				refuse(s)
				for round := 1; round <= 3; round++ {
					for range 20 {
						if err := s.pull("rule", "team-a/api", a); err == nil {
							t.Fatal("the registry does not refuse")
						}
					}
					s.want(fmt.Sprint("round ", round), azuretest.Exchange, round, azuretest.IMDS, 1)
					time.Sleep(10 * time.Second)
				}
			})
		})
	}
}

func (s *scene) revokeAll() {
	for _, id := range s.behind {
		s.registry.Revoke(id.PrincipalID)
	}
}

// TestRegistryThatAlternates: a renewal that does not help is not tried again for
// 10 seconds, though the registry accepts the token for another repository in between; and
// a token that only lacks a right is not renewed at once.
func TestRegistryThatAlternates(t *testing.T) {
	const rounds = 20
	other := func(round int) string { return fmt.Sprintf("team-x/app-%d", round) }
	for name, c := range map[string]struct {
		prepare func(*scene)
		refused func(s *scene, a auth.Authenticator, round int) error
		itself  bool // the token itself is refused
	}{
		"no role for one repository": {func(*scene) {}, func(s *scene, a auth.Authenticator, _ int) error { return s.pull("rule", "team-b/api", a) }, false},
		"no role for many":           {func(*scene) {}, func(s *scene, a auth.Authenticator, round int) error { return s.pull("rule", other(round), a) }, false},
		"no token without the role":  {func(s *scene) { s.registry.SetRefuseTokens(true) }, func(s *scene, a auth.Authenticator, _ int) error { return s.pull("rule", "team-b/api", a) }, true},
		"no HEAD": {func(s *scene) { s.registry.Content.Fail(upstreamtest.Fault{Method: "HEAD", Status: 401}) },
			func(s *scene, a auth.Authenticator, _ int) error {
				return second(s.open("rule", "team-a/api", a).Resolve(s.t.Context(), "v1"))
			}, false},
		"no list of tags": {func(s *scene) { s.registry.Content.Fail(upstreamtest.Fault{Kind: "tags", Status: 401}) },
			func(s *scene, a auth.Authenticator, _ int) error {
				return second(s.open("rule", "team-a/api", a).(upstream.TagLister).Tags(s.t.Context(), nil))
			}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				a := s.identity("team-a/api")
				c.prepare(s)
				for period := 1; period <= 3; period++ {
					for round := range rounds {
						if err := s.pull("rule", "team-a/api", a); err != nil {
							t.Fatal(err)
						}
						if c.refused(s, a, round) == nil {
							t.Fatal("the registry does not refuse")
						}
					}
					exchanges := period
					if c.itself {
						exchanges++
					}
					s.want(fmt.Sprint("period ", period), azuretest.Exchange, exchanges, azuretest.IMDS, 1)
					time.Sleep(10 * time.Second)
				}
			})
		})
	}
}

func (s *scene) open(rule, repository string, a auth.Authenticator) upstream.Repository {
	s.t.Helper()
	r, err := s.up.Open(upstream.Source{Rule: rule, Host: dev, Repository: repository}, a)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// TestCrowdIsRefused: however many pulls are refused with the same token, it is
// renewed once, and a refusal that comes late does not throw the new token away.
func TestCrowdIsRefused(t *testing.T) {
	for name, repositories := range map[string][]string{"one": {"team-a/api"}, "two": {"team-a/api", "team-b/api"}} {
		t.Run(name, func(t *testing.T) {
			s := newWiredScene(t)
			for who, a := range exchanged(s) {
				s.Reset()
				for forgotten := range 4 {
					if forgotten > 0 {
						s.registry.ForgetTokens()
					}
					var wg sync.WaitGroup
					for n := range 50 {
						wg.Go(func() {
							if err := s.pull(who, repositories[n%len(repositories)], a); err != nil {
								t.Errorf("%s: %v", who, err)
							}
						})
					}
					wg.Wait()
					s.want(fmt.Sprintf("%s, forgotten %d times", who, forgotten), azuretest.Exchange, 1+forgotten)
				}
			}
		})
	}
}

// TestLateReportsOfAToken: Accepted and Refused count for their token alone; a late call does
// not change the state of the token after it.
func TestLateReportsOfAToken(t *testing.T) {
	r := auth.Request{Rule: "r", Host: dev, Repository: "team-a/api"}
	refusal := auth.Refusal{Status: http.StatusUnauthorized, Unauthenticated: true}
	type told interface {
		auth.Authenticator
		auth.Invalidator
		auth.Observer
	}
	for name, c := range map[string]struct {
		late    func(a told, old, now auth.Credential)
		renewed bool // the refusal that follows discards the new token
	}{
		"a refusal of the old one": {func(a told, old, now auth.Credential) { a.Accepted(r, now); a.Invalidate(r, old) }, true},
		"two of them":              {func(a told, old, _ auth.Credential) { a.Invalidate(r, old); a.Invalidate(r, old) }, false},
		"that the old one worked":  {func(a told, old, _ auth.Credential) { a.Accepted(r, old) }, false},
		"that the old one failed":  {func(a told, old, now auth.Credential) { a.Accepted(r, now); _ = a.Refused(r, old, refusal) }, true},
		"that the new one failed":  {func(a told, _, now auth.Credential) { a.Accepted(r, now); _ = a.Refused(r, now, refusal) }, false},
		"that the firewall refused it": {func(a told, _, now auth.Credential) {
			a.Accepted(r, now)
			_ = a.Refused(r, now, auth.Refusal{Status: 403})
		}, true},
		"what another rule was told": {func(a told, _, now auth.Credential) { a.Accepted(auth.Request{Rule: "other", Host: dev}, now) }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			for who, a := range exchanged(s) {
				who += ", " + name
				a, get := a.(told), func() auth.Credential {
					t.Helper()
					got, err := s.credential(a)
					if err != nil {
						t.Fatal(err)
					}
					return got
				}
				old := get()
				a.Accepted(r, old)
				a.Invalidate(r, old)
				now := get()
				if now.Version == old.Version {
					t.Errorf("%s: a token that worked is not renewed", who)
				}
				c.late(a, old, now)
				if get().Version != now.Version {
					t.Errorf("%s: the new token was thrown away", who)
				}
				a.Invalidate(r, now)
				if got := get().Version != now.Version; got != c.renewed {
					t.Errorf("%s: renewed %v, want %v", who, got, c.renewed)
				}
			}
			time.Sleep(time.Hour) // background work of the SDK, if any, has ended
		})
	}
}
