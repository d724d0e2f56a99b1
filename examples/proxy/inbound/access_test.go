package inbound_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// proofs are the ways in which Alice can prove who she is.
func (s *site) proofs(scopes ...string) map[string]proof {
	alice := basic("alice", alicePassword)
	form := url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {alicePassword}, "service": {inbound.DefaultService}, "scope": {strings.Join(scopes, " ")}, "client_id": {"test"}}
	return map[string]proof{
		"basic":         alice,
		"token by GET":  bearer(s.get(alice, scopes...).Token),
		"token by POST": bearer(s.read(s.post(form)).Token),
	}
}

// TestReadsWhatPatternsAllow: a user reads what the patterns allow, by manifest, blob, tags and
// referrers, and nothing else, however the user has logged in. What is refused costs no request
// upstream.
func TestReadsWhatPatternsAllow(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, nil)
	for name, by := range s.proofs(pull("team/app"), pull("hub/library/alpine"), pull("secret/plan"), pull("team/tool")) {
		t.Run(name, func(t *testing.T) {
			s.want("/v2/", by, 200)
			for _, path := range append(s.reads("team/app", "team/app"), s.reads("hub/library/alpine", "library/alpine")...) {
				s.want(path, by, 200)
			}
			s.up.Reset()
			for _, path := range append(s.reads("secret/plan", "secret/plan"), s.reads("team/tool", "team/tool")...) {
				a := s.want(path, by, 403)
				if strings.HasPrefix(path, "/") && !strings.Contains(a.body, `"code":"DENIED"`) {
					t.Errorf("%s: %s", path, a.body)
				}
			}
			if asked := s.up.Requests(); len(asked) > 0 {
				t.Errorf("refused requests cost %d requests upstream", len(asked))
			}
		})
	}
}

// TestNothingWithoutCredentials: without credentials and with wrong ones nothing is read, and each
// answer says how to log in.
func TestNothingWithoutCredentials(t *testing.T) {
	s := newSite(t, &inbound.Gate{FailedLogins: inbound.Rate{Count: 1000, Per: time.Minute}}, nil)
	s.up.Reset()
	for name, by := range map[string]proof{
		"nobody": nobody, "wrong password": basic("alice", alicePassword+"x"), "no password": basic("alice", ""), "unknown user": basic("mallory", alicePassword),
		"user of another case": basic("Alice", alicePassword), "password of bob": basic("alice", bobPassword), "a guess": bearer("guess"),
		"the password as a token": bearer(alicePassword), "the token of another": basic("alice", ciToken), "no user": basic("", alicePassword),
	} {
		for _, path := range append(s.reads("team/app", "team/app"), "/v2/", "/v2/_catalog") {
			a := s.want(path, by, 401)
			if challenge := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, `Bearer realm="`+s.server.URL+`/token",service="pullthrough"`) {
				t.Fatalf("%s: %s: the challenge is %q", name, path, challenge)
			}
			if strings.HasPrefix(path, "/") && !strings.Contains(a.body, `"code":"UNAUTHORIZED"`) {
				t.Errorf("%s: %s: %s", name, path, a.body)
			}
		}
	}
	if asked := s.up.Requests(); len(asked) > 0 {
		t.Errorf("refused requests cost %d requests upstream", len(asked))
	}
}

// TestBlobThroughAnotherRepository: a digest of a repository that a user may not read is not to be had
// through one that the user may read, whether or not it is stored, nor by a mount.
func TestBlobThroughAnotherRepository(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, nil)
	secret := s.images["secret/plan"]
	layer := secret.Layers[0].Digest.String()
	for _, stored := range []bool{false, true} {
		if stored {
			for _, path := range s.reads("secret/plan", "secret/plan") {
				s.want(path, basic("carol", carolPassword), 200)
			}
			if err := s.cache.Idle(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for name, by := range s.proofs(pull("team/app")) {
			for _, path := range []string{"/v2/team/app/blobs/" + layer, "/v2/team/app/manifests/" + secret.Digest.String(), "/v2/team/app/blobs/" + secret.Config.Digest.String()} {
				if a := s.do(path, by); a.status != 404 || strings.Contains(a.body, "layer of") {
					t.Errorf("%s, stored %t: %s: status %d: %s", name, stored, path, a.status, a.body)
				}
			}
			s.want("POST /v2/team/app/blobs/uploads/?mount="+layer+"&from=secret/plan", by, 403, "clients may only pull")
			s.want("PUT /v2/team/app/manifests/v1", by, 403, "clients may only pull")
			s.want("DELETE /v2/team/app/manifests/v1", by, 403, "clients may only pull")
		}
	}
}

// TestNamesAsTypedAndCanonical: clients ask for tokens for the name that was typed or for the
// canonical one, and use either afterwards.
func TestNamesAsTypedAndCanonical(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, nil)
	alice := basic("alice", alicePassword)
	for _, name := range []string{"hub/alpine", "hub/library/alpine"} {
		by := bearer(s.get(alice, pull(name)).Token)
		for _, path := range append(s.reads("hub/alpine", "library/alpine"), s.reads("hub/library/alpine", "library/alpine")...) {
			s.want(path, by, 200)
		}
	}
	// With ns=, the name alone does not say which repository is meant, so the challenge does.
	path := "/v2/library/alpine/manifests/v1?ns=docker.io"
	challenge := s.want(path, nobody, 401).header.Get("WWW-Authenticate")
	if !strings.Contains(challenge, `scope="repository:hub/library/alpine:pull"`) {
		t.Errorf("the challenge is %s", challenge)
	}
	s.want(path, bearer(s.get(alice, pull("library/alpine"), pull("hub/library/alpine")).Token), 200)
	// It must not make a repository readable under another one's name.
	s.policy = &inbound.Policy{Passwords: s.policy.Passwords, Users: []inbound.Grant{{Name: "alice", Pull: inbound.Patterns{"library/*"}}}}
	s.gate.SetPolicy(t.Context(), s.policy, s.keys)
	s.want(path, bearer(s.get(alice, pull("library/alpine")).Token), 403)
	s.want(path, alice, 403)
}

// TestTokenIsForItsScope: a token opens nothing but what it was asked for, and the challenge leads to one that
// does.
func TestTokenIsForItsScope(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, nil)
	carol := basic("carol", carolPassword)
	for _, scopes := range [][]string{
		nil, {""}, {pull("team/tool")}, {"repository:team/app:push"}, {"repository:team/app:"}, {"registry:team/app:pull"}, {"repository:team/ap:pull"}, {"repository:team/app/x:pull"},
		{"registry:catalog:*"}, {"repository:*:pull"}, {"repository:TEAM/app:pull"}, {"repository:team/../team/app:pull"}, {"repository:team%2fapp:pull"},
	} {
		by := bearer(s.get(carol, scopes...).Token)
		s.want("/v2/", by, 200)
		a := s.want("/v2/team/app/manifests/v1", by, 401)
		challenge := a.header.Get("WWW-Authenticate")
		if !strings.Contains(challenge, `scope="repository:team/app:pull",error="insufficient_scope"`) {
			t.Errorf("%q: the challenge is %s", scopes, challenge)
		}
	}
	s.want("/v2/team/app/manifests/v1", bearer(s.get(carol, "repository:team/tool:pull repository:team/app:push,pull").Token), 200)
	s.want("/v2/team/app/manifests/v1", bearer(s.get(carol, "repository(plugin):team/app:*").Token), 200)
	// What a user may not read is not granted, and is refused if it was.
	one := s.get(basic("alice", alicePassword), pull("team/app"), pull("secret/plan"))
	if one.Scope != pull("team/app") {
		t.Errorf("granted %q", one.Scope)
	}
	s.want("/v2/secret/plan/manifests/v1", bearer(one.Token), 403)
}

// TestPathTricks: other spellings of a path lead to no other repository.
func TestPathTricks(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, nil)
	alice := basic("alice", alicePassword)
	for _, path := range []string{
		"/v2/team/app/../../secret/plan/manifests/v1", "/v2/team/app/%2e%2e/%2e%2e/secret/plan/manifests/v1", "/v2/team%2f..%2fsecret/plan/manifests/v1", "/v2/secret%2fplan/manifests/v1",
		"/v2//secret/plan/manifests/v1", "//v2/secret/plan/manifests/v1", "/v2/SECRET/plan/manifests/v1", "/V2/secret/plan/manifests/v1", "/v2/./secret/plan/manifests/v1",
		"/v2/secret/plan/manifests/v1/", "/v2/team/app/manifests/../../../secret/plan/manifests/v1", "/v2/secret/plan%00/manifests/v1", "/v2/team/app\\..\\..\\secret/plan/manifests/v1",
	} {
		if a := s.do(path, alice); a.status < 400 || strings.Contains(a.body, "schemaVersion") {
			t.Errorf("%s: status %d: %s", path, a.status, a.body)
		}
	}
	if n := len(s.up.Requests()); n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
}

// TestStaticToken: a static token is shown as it is, or as a password beside its name.
func TestStaticToken(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, nil)
	for name, by := range map[string]proof{"bearer": bearer(ciToken), "basic": basic("ci", ciToken), "exchanged": bearer(s.get(basic("ci", ciToken), pull("team/tool")).Token)} {
		t.Run(name, func(t *testing.T) {
			s.want("/v2/", by, 200)
			s.want("/v2/team/tool/manifests/v1", by, 200)
			s.want("/v2/secret/plan/manifests/v1", by, 403)
		})
	}
}

// TestAnonymous: everybody reads what the anonymous patterns allow. Clients that ask for a token first get one.
func TestAnonymous(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, func(s *site) { s.policy.Anonymous = inbound.Patterns{"hub/library/*"} })
	s.want("/v2/", nobody, 401) // so that clients learn how to log in
	by := bearer(s.get(nobody, pull("hub/alpine"), pull("team/app")).Token)
	s.want("/v2/", by, 200)
	for _, path := range append(s.reads("hub/library/alpine", "library/alpine"), s.reads("hub/alpine", "library/alpine")...) {
		s.want(path, nobody, 200)
		s.want(path, by, 200)
	}
	if err := s.cache.Idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range s.reads("team/app", "team/app") {
		s.want(path, nobody, 401)
		s.want(path, by, 401)
	}
	s.want("/v2/hub/alpine/manifests/v1", basic("alice", "wrong"), 401)
	// A list without credentials would be taken for all that there is by clients that could log in.
	s.want("/v2/_catalog", nobody, 401)
	s.want("/v2/_catalog", bearer(s.get(nobody, "registry:catalog:*").Token), 200, `["hub/library/alpine"]`)
	// The token ends with the patterns.
	s.gate.SetPolicy(t.Context(), &inbound.Policy{Passwords: s.policy.Passwords}, s.keys)
	s.want("/v2/hub/library/alpine/manifests/v1", by, 401)
	s.want("/token", nobody, 401)
}

// TestWithoutPolicy: a gate without a policy lets everybody pull, and has no token service.
func TestWithoutPolicy(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, func(s *site) { s.policy = nil })
	for _, path := range append(s.reads("secret/plan", "secret/plan"), "/v2/", "/v2/_catalog") {
		s.want(path, nobody, 200)
	}
	s.want("/token", nobody, 404)
}

// TestBasicChallenge: without a token service, clients are asked for the password itself.
func TestBasicChallenge(t *testing.T) {
	s := newSite(t, &inbound.Gate{Challenge: inbound.Basic}, nil)
	if got := s.want("/v2/", nobody, 401).header.Get("WWW-Authenticate"); got != `Basic realm="pullthrough"` {
		t.Errorf("the challenge is %s", got)
	}
	s.want("/v2/team/app/manifests/v1", basic("alice", alicePassword), 200)
	s.want("/v2/team/app/manifests/v1", bearer("a.b.c"), 401)
	s.want("/token", basic("alice", alicePassword), 404)
}
