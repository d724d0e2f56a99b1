package inbound_test

import (
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// TestAnyone: what every user may pull is added to what each of them may.
func TestAnyone(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, func(s *site) {
		s.policy.Users = []inbound.Grant{{Name: "alice", Pull: inbound.Patterns{"team/tool"}}, {Name: inbound.Anyone, Pull: inbound.Patterns{"team/app"}}}
	})
	alice, bob := basic("alice", alicePassword), basic("bob", bobPassword)
	s.want("/v2/team/app/manifests/v1", alice, 200)
	s.want("/v2/team/tool/manifests/v1", alice, 200)
	s.want("/v2/team/app/manifests/v1", bob, 200)
	s.want("/v2/team/tool/manifests/v1", bob, 403)
	s.want("/v2/team/app/manifests/v1", basic("ci", ciToken), 200) // by its own patterns
	s.want("/v2/team/app/manifests/v1", basic("*", bobPassword), 401)
	s.want("/v2/team/app/manifests/v1", nobody, 401)
}

// TestProblemsAreTold: what cannot work is in the log once, and opens nothing.
func TestProblemsAreTold(t *testing.T) {
	token := func(name, value string) inbound.Token {
		return inbound.Token{Grant: inbound.Grant{Name: name, Pull: inbound.Patterns{"*"}}, Secret: auth.Value{Text: auth.NewSensitive(value)}}
	}
	s := newSite(t, &inbound.Gate{}, func(s *site) {
		s.policy.Users = append(s.policy.Users, inbound.Grant{Name: "dave", Pull: inbound.Patterns{"*"}})
		s.policy.Tokens = append(s.policy.Tokens, token("tiny", "fifteen-letters"), token("empty", ""), token("twin", ciToken),
			inbound.Token{Grant: inbound.Grant{Name: "unset"}, Secret: auth.Env("INBOUND_TEST_UNSET")}, inbound.Token{Grant: inbound.Grant{Name: "gone"}, Secret: auth.File("nowhere")})
	})
	for range 3 {
		if err := s.gate.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, words := range []string{
		`user \"dave\" cannot log in`, `users of the htpasswd file have no patterns of what they may pull: [\"bob\"]`, `token \"tiny\" opens nothing: it has less than 16 characters`, `token \"empty\" opens nothing`,
		`token \"twin\" opens nothing: another one has the same value`, `token \"unset\" opens nothing: auth: environment variable INBOUND_TEST_UNSET is not set`, `token \"gone\" opens nothing`,
	} {
		if n := strings.Count(s.log.String(), words); n != 1 {
			t.Errorf("%s is in the log %d times:\n%s", words, n, s.log.String())
		}
	}
	for name, by := range map[string]proof{
		"tiny": bearer("fifteen-letters"), "empty": bearer(""), "empty by its name": basic("empty", ""), "twin": basic("twin", ciToken), "unset": basic("unset", ""), "no token": bearer(" "),
	} {
		if a := s.do("/v2/team/app/manifests/v1", by); a.status != 401 {
			t.Errorf("%s: status %d", name, a.status)
		}
	}
	// A variable that is set later counts at the next look.
	t.Setenv("INBOUND_TEST_UNSET", "a-token-that-was-set-later")
	if err := s.gate.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.want("/v2/", bearer("a-token-that-was-set-later"), 200)
}

// TestAnonymousIsForEverybody: who logs in keeps what is to be had without.
func TestAnonymousIsForEverybody(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, func(s *site) { s.policy.Anonymous = inbound.Patterns{"hub/*"} })
	const path = "/v2/hub/library/alpine/manifests/v1"
	for name, by := range map[string]proof{
		"nobody": nobody, "alice": basic("alice", alicePassword), "bob, who has no patterns": basic("bob", bobPassword), "a static token": bearer(ciToken),
		"bob's token": bearer(s.get(basic("bob", bobPassword), pull("hub/alpine")).Token),
	} {
		if a := s.do(path, by); a.status != 200 {
			t.Errorf("%s: status %d: %s", name, a.status, a.body)
		}
	}
	s.want("/v2/team/app/manifests/v1", basic("bob", bobPassword), 403, "user 'bob' may not pull 'team/app'")
}
