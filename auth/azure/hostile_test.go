package azure_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

// proofs are the ways for a rule to authenticate to a registry of Azure.
func proofs(s *scene) map[string]auth.Authenticator {
	s.t.Helper()
	app := s.NewServicePrincipal("")
	s.registry.Grant(app.PrincipalID, "team-a/api")
	sp, err := azure.NewServicePrincipal(s.options(), s.TenantID(), app.ClientID, secretOf{app})
	if err != nil {
		s.t.Fatal(err)
	}
	return map[string]auth.Authenticator{"identity": s.identity("team-a/api"), "principal": sp, "set": s.tokenSet("puller")}
}

// strangers serves the hosts to which redirects and challenges lead. They challenge every
// request, and the fake records what they are sent.
func (s *scene) strangers() {
	for _, name := range []string{"evil.azurecr.io", "evil.example", "tokens.evil.example"} {
		s.Handle(name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Www-Authenticate", `Bearer realm="https://`+r.Host+`/token",service="`+r.Host+`"`)
			w.WriteHeader(http.StatusUnauthorized)
		}))
	}
}

// wantStrangersKnowNothing checks that strangers were sent no secret, and that only the SDK
// sent requests to the endpoints of the machine.
func (s *scene) wantStrangersKnowNothing(what string, imds int) {
	s.t.Helper()
	for _, c := range s.Calls() {
		if c.Endpoint == azuretest.Other && (c.Header.Get("Authorization") != "" || c.Header.Get("Cookie") != "" || len(c.Form) > 0 || c.Method != http.MethodGet || c.URL.Scheme == "http") {
			s.t.Errorf("%s: %s was sent %s", what, c.Host, c.Text())
		}
	}
	s.want(what, azuretest.IMDS, imds)
	if refused := s.Refused(); len(refused) > 0 {
		s.t.Errorf("%s: requests were sent to %q", what, refused)
	}
}

// say is a response with one header: a challenge or a redirect.
func say(status int, header, value string) azuretest.Fault {
	return azuretest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(header, value)
		w.WriteHeader(status)
	}}
}

// TestHostileRegistry: whatever the source responds at any endpoint, the credential of a
// rule is sent only to the source's own token server.
func TestHostileRegistry(t *testing.T) {
	faults := map[string]azuretest.Fault{}
	for name, challenge := range map[string]string{
		"realm elsewhere":            `Bearer realm="https://tokens.evil.example/token",service="dev.azurecr.io"`,
		"realm over http":            `Bearer realm="http://dev.azurecr.io/oauth2/token",service="dev.azurecr.io"`,
		"realm of a neighbor":        `Bearer realm="https://evil.azurecr.io/oauth2/token",service="evil.azurecr.io"`,
		"realm at the data endpoint": `Bearer realm="https://dev.eastus.data.azurecr.io/oauth2/token",service="dev.azurecr.io"`,
		"realm at the machine":       `Bearer realm="http://169.254.169.254/metadata/identity/oauth2/token",service="dev.azurecr.io"`,
		"two realms":                 `Bearer realm="https://tokens.evil.example/token",realm="https://dev.azurecr.io/oauth2/token",service="dev.azurecr.io"`,
		"basic":                      `Basic realm="https://evil.example"`,
	} {
		faults[name] = say(http.StatusUnauthorized, "Www-Authenticate", challenge)
	}
	for _, to := range []string{"https://evil.example/v2/", "https://evil.azurecr.io/v2/", "http://dev.azurecr.io/v2/", "http://evil.example/", "//evil.example/v2/",
		"https://169.254.169.254/metadata/identity/oauth2/token", "http://169.254.169.254/metadata/identity/oauth2/token", "https://user:word@evil.example/", "https://0xa9fea9fe/"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			faults[fmt.Sprint(status, " to ", to)] = say(status, "Location", to)
		}
	}
	for name, fault := range faults {
		for _, at := range []azuretest.Endpoint{azuretest.V2, azuretest.Token, azuretest.Exchange} {
			s := newScene(t)
			s.strangers()
			for who, a := range proofs(s) {
				s.Reset()
				s.Fail(at, fault)
				if err := s.pull("rule-"+who, "team-a/api", a); err == nil && (who != "set" || at != azuretest.Exchange) {
					t.Errorf("%s, %s at %s: no error", who, name, at)
				}
				s.Heal()
				imds := 0
				if who == "identity" {
					imds = 1 + s.moreTokens(at, name)
				}
				s.wantStrangersKnowNothing(fmt.Sprint(who, ", ", name, " at ", at), imds)
			}
		}
	}
}

// moreTokens is how many more Entra tokens are requested after a refusal: one, if the
// exchange refuses the first.
func (s *scene) moreTokens(at azuretest.Endpoint, name string) int {
	if at == azuretest.Exchange && (strings.HasPrefix(name, "realm") || name == "two realms" || name == "basic") {
		return 1
	}
	return 0
}

// TestForeignService: for a challenge that names another service than the registry, no
// refresh token is sent to the token server.
func TestForeignService(t *testing.T) {
	for _, service := range []string{`,service="evil.azurecr.io"`, `,service="dev.azurecr.io,evil.azurecr.io"`, ``} {
		s := newScene(t)
		s.Fail(azuretest.V2, say(http.StatusUnauthorized, "Www-Authenticate", `Bearer realm="https://dev.azurecr.io/oauth2/token"`+service))
		if err := s.pull("rule", "team-a/api", s.identity("team-a/api")); err == nil {
			t.Errorf("%q: no error", service)
		}
		s.want(service, azuretest.Token, 0)
	}
}

// TestHostileDataEndpoint: the endpoint from which blobs come may redirect, but no credential
// follows, and it may not redirect to http or deeper inside the network.
func TestHostileDataEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		fault azuretest.Fault
		asked bool // a stranger receives a request, without a credential
		again bool // the source receives one more request, which it refuses for lack of a credential
	}{
		"to http":             {fault: say(307, "Location", "http://dev.eastus.data.azurecr.io/x")},
		"to a stranger":       {fault: say(307, "Location", "https://evil.example/x"), asked: true},
		"to http elsewhere":   {fault: say(302, "Location", "http://evil.example/x")},
		"to the machine":      {fault: say(307, "Location", "https://169.254.169.254/metadata/identity/oauth2/token")},
		"to loopback":         {fault: say(307, "Location", "https://127.0.0.1/x")},
		"back to the source":  {fault: say(307, "Location", "https://dev.azurecr.io/v2/team-a/api/manifests/v1"), again: true},
		"to the token server": {fault: say(308, "Location", "https://dev.azurecr.io/oauth2/exchange")},
		"to a vault":          {fault: say(307, "Location", "https://v.vault.azure.net/secrets/x?api-version=7.5")},
		"challenge":           {fault: say(401, "Www-Authenticate", `Bearer realm="https://dev.azurecr.io/oauth2/token",service="dev.azurecr.io"`)},
		"foreign challenge":   {fault: say(401, "Www-Authenticate", `Bearer realm="https://tokens.evil.example/token",service="dev.azurecr.io"`)},
		"basic":               {fault: say(401, "Www-Authenticate", `Basic realm="x"`)},
		"in circles":          {fault: say(307, "Location", "https://dev.eastus.data.azurecr.io/x")},
	} {
		s := newScene(t)
		s.strangers()
		s.NewVault("v")
		for who, a := range proofs(s) {
			if err := s.pull("rule-"+who, "team-a/api", a); err != nil {
				t.Fatal(err)
			}
			s.Reset()
			s.Fail(azuretest.Data, c.fault)
			// A redirect to the token server or the exchange is not followed.
			s.Fail(azuretest.Exchange, azuretest.Fault{Status: http.StatusTeapot})
			r, err := s.up.Open(upstream.Source{Rule: "rule-" + who, Host: dev, Repository: "team-a/api"}, a)
			if err != nil {
				t.Fatal(err)
			}
			b, err := r.Blob(t.Context(), s.img.Layers[0].Digest, 0, -1)
			if err == nil {
				_, err = io.ReadAll(b)
				_ = b.Close()
			}
			if err == nil {
				t.Errorf("%s, %s: no error", who, name)
			}
			s.Heal()
			what := fmt.Sprint(who, ", ", name)
			s.wantStrangersKnowNothing(what, 0)
			if asked, again := s.Count(azuretest.Other) > 0, s.Count(azuretest.Token) > 0; asked != c.asked || again != c.again || len(s.Calls()) > 13 {
				t.Errorf("%s: %d calls, %d to strangers, %d for tokens", what, len(s.Calls()), s.Count(azuretest.Other), s.Count(azuretest.Token))
			}
			own := "/v2/" + blobs("team-a/api", s.img.Layers[0].Digest)
			for _, call := range s.Calls() {
				if call.Header.Get("Authorization") != "" && call.Endpoint != azuretest.Token && (call.Host != dev || call.URL.Path != own) {
					t.Errorf("%s: %s %s%s with a credential", what, call.Method, call.Host, call.URL.Path)
				}
			}
		}
	}
}

// TestHostileMachine: a token for something else than registries is sent to no registry,
// whoever issued it.
func TestHostileMachine(t *testing.T) {
	s := newScene(t)
	u := s.identity("team-a/api")
	resp, err := s.client.Do(must(http.NewRequest("GET", "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net&msi_res_id="+url.QueryEscape(u.ResourceID()), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	s.Fail(azuretest.IMDS, body(string(answer)))
	err = s.pull("rule", "team-a/api", u)
	denied(t, err, u.ResourceID(), "not for registries")
	s.want("nothing was sent", azuretest.Exchange, 0, azuretest.Token, 0)
}

func must(r *http.Request, err error) *http.Request {
	if err != nil {
		panic(err) // the literal is wrong
	}
	r.Header.Set("Metadata", "true")
	return r
}

// TestHostileVault: a vault that demands a token for another audience, or redirects, receives
// no token, and strangers receive no secret.
func TestHostileVault(t *testing.T) {
	for name, fault := range map[string]azuretest.Fault{
		"another resource": say(401, "Www-Authenticate", `Bearer authorization="https://evil.example/tenant", resource="https://evil.example"`),
		"registries":       say(401, "Www-Authenticate", `Bearer authorization="https://login.microsoftonline.com/x", resource="https://containerregistry.azure.net"`),
		"management":       say(401, "Www-Authenticate", `Bearer authorization="https://login.microsoftonline.com/x", scope="https://management.azure.com/.default"`),
		"redirect":         say(307, "Location", "https://evil.example/secrets/password"),
		"megabytes":        body(`{"value":"` + strings.Repeat("x", 4<<20) + `"}`),
	} {
		s := newScene(t)
		s.strangers()
		k := vaultSecret(s, s.NewVault("v"), "password", "its-password")
		s.Fail(azuretest.KeyVault, fault)
		value, _, err := k.Read(t.Context())
		if err == nil || !value.Empty() || len(err.Error()) > 500 {
			t.Errorf("%s: %.600v", name, err)
		}
		s.wantStrangersKnowNothing(name, 0)
		s.want(name, azuretest.Other, 0)
	}
}

// TestRegistryThatNeverAccepts: a registry that refuses every token, or responds with
// megabytes, receives a bounded number of requests.
func TestRegistryThatNeverAccepts(t *testing.T) {
	for name, fault := range map[string]func(*scene){
		"401 loop": func(s *scene) {
			s.Fail(azuretest.V2, say(401, "Www-Authenticate", `Bearer realm="https://dev.azurecr.io/oauth2/token",service="dev.azurecr.io",scope="repository:team-a/api:pull"`))
		},
		"token 401": func(s *scene) { s.Fail(azuretest.Token, status(401)) },
		"megabytes": func(s *scene) { s.Fail(azuretest.Token, body(`{"access_token":"`+strings.Repeat("x", 4<<20)+`"}`)) },
		"garbage":   func(s *scene) { s.Fail(azuretest.Token, body(`{`)) },
	} {
		s := newScene(t)
		fault(s)
		for who, a := range proofs(s) {
			s.Reset()
			for range 5 {
				if err := s.pull("rule-"+who, "team-a/api", a); err == nil || len(err.Error()) > 1000 {
					t.Errorf("%s, %s: %.200v", who, name, err)
				}
			}
			if n := len(s.Calls()); n > 34 {
				t.Errorf("%s, %s: 5 pulls made %d requests", who, name, n)
			}
		}
	}
}

// TestLooksLikeARegistry: for a host that is not a login server, no token is requested and no
// rule is accepted.
func TestLooksLikeARegistry(t *testing.T) {
	s := newScene(t)
	for who, a := range proofs(s) {
		for _, host := range []string{"dev.azurecr.io.evil.example", "evil-azurecr.io", "devazurecr.io", "dev.azurecr.io:8443", "dev.eastus.data.azurecr.io", "dev.azurecr.com", "quay.io", "127.0.0.1:5000"} {
			if _, err := rule.NewSet(rule.Rule{Name: "rule", Source: host + "/team-a/api", Target: "api", Auth: a}); err == nil || !strings.Contains(err.Error(), host) {
				t.Errorf("%s: a rule for %s: %v", who, host, err)
			}
			r, err := s.up.Open(upstream.Source{Rule: "rule", Host: host, Repository: "team-a/api"}, a)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := r.Manifest(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), host) {
				t.Errorf("%s: %s: %v", who, host, err)
			}
		}
	}
	if n := len(s.Calls()) + len(s.Refused()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}
