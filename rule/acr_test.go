package rule

import (
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
)

func TestStrictTable(t *testing.T) {
	const (
		unsupported = "UpstreamNotSupported source"
		docker      = "EnforceDockerAuthentication auth"
		needed      = "EnforceUpstreamAuthentication auth"
		forbidden   = "UpstreamAuthenticationNotSupported auth"
	)
	for _, c := range []struct{ host, anonymous, authenticated string }{
		{"docker.io", docker, ""},
		{"Registry-1.docker.io.", docker, ""},
		{"dhi.io", needed, ""},
		{"myregistry.azurecr.io", needed, ""},
		{"my-reg-e7gg.azurecr.io", needed, ""},
		{"MyRegistry.AzureCR.io:443", needed, ""},
		{"myregistry.azurecr.cn", needed, ""},
		{"myregistry.azurecr.us", needed, ""},
		{"myregistry.azurecr.de", needed, ""},
		{"myregistry.westeurope.data.azurecr.io", unsupported, unsupported},
		{"myregistry.westeurope.geo.azurecr.io", unsupported, unsupported},
		{"myregistry.azurecr.io:8443", unsupported, unsupported},
		{"azurecr.io", unsupported, unsupported},
		{"registry.contoso.com", unsupported, unsupported},
		{"azurecr.io.evil.example", unsupported, unsupported},
		{"evilazurecr.io", unsupported, unsupported},
		{"mcr.microsoft.com", "", forbidden},
		{"public.ecr.aws", "", forbidden},
		{"ghcr.io", "", ""},
		{"quay.io", "", ""},
		{"registry.k8s.io", "", ""},
		{"us-west1-docker.pkg.dev", needed, ""},
		{"a.b.pkg.dev", unsupported, unsupported},
		{"gcr.io", "", ""},
		{"eu.gcr.io", "", ""},
		{"us.gcr.io", unsupported, unsupported},
		{"nvcr.io", "", ""},
		{"registry.redhat.io", needed, ""},
		{"registry.access.redhat.com", "", forbidden},
		{"localhost:5000", unsupported, unsupported},
	} {
		for _, who := range []struct {
			auth auth.Authenticator
			want string
		}{{nil, c.anonymous}, {auth.Anonymous{}, c.anonymous}, {&auth.Anonymous{}, c.anonymous}, {password{}, c.authenticated}} {
			_, err := Options{Strict: true}.NewSet(Rule{Name: "my-rule", Source: c.host + "/a/b", Target: "a", Auth: who.auth})
			if who.want == "" {
				if err != nil {
					t.Errorf("%s with %T: %v", c.host, who.auth, err)
				}
				continue
			}
			wantFaults(t, err, who.want)
		}
	}
}

func TestStrictNames(t *testing.T) {
	for name, ok := range map[string]bool{"r": false, "rule": false, "rules": true, strings.Repeat("r", 50): true, strings.Repeat("r", 51): false} {
		_, err := Options{Strict: true}.NewSet(Rule{Name: name, Source: "quay.io/a", Target: "a"})
		if ok != (err == nil) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestACRNeedsCredentials: a rule with an ACR as its source must have an authenticator,
// strict or not.
func TestACRNeedsCredentials(t *testing.T) {
	for host, anonymousAllowed := range map[string]bool{
		"reg.azurecr.io": false, "reg.azurecr.cn": false, "reg.azurecr.us": false, "reg.azurecr.de": false,
		"reg.westeurope.geo.azurecr.io": false, "reg.azurecr.io:8443": false, "REG.AZURECR.IO.": false,
		"docker.io": true, "mcr.microsoft.com": true, "registry.contoso.com": true, "evilazurecr.io": true, "reg.azurecr.io.contoso.com": true,
	} {
		r := Rule{Name: "promote", Source: host + "/app", Target: "app"}
		if _, err := NewSet(r); anonymousAllowed != (err == nil) {
			t.Errorf("%s: %v", host, err)
		} else if err != nil {
			wantFaults(t, err, "EnforceUpstreamAuthentication auth")
		}
		r.Auth = password{}
		s, err := NewSet(r)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		if err := s.SetAuth("promote", nil); anonymousAllowed != (err == nil) {
			t.Errorf("%s: update to anonymous: %v", host, err)
		}
	}
}

func TestTableCanBeExtended(t *testing.T) {
	table := append(ACR(), Upstream{"registry.contoso.com", AuthRequired}, Upstream{"*.contoso.com", AuthOptional})
	o := Options{Strict: true, Upstreams: table}
	_, err := o.NewSet(Rule{Name: "contoso", Source: "registry.contoso.com/a", Target: "a"})
	wantFaults(t, err, "EnforceUpstreamAuthentication auth")
	s, err := o.NewSet(Rule{Name: "other", Source: "other.contoso.com/a", Target: "a"})
	if err != nil {
		t.Fatal(err)
	}
	wantFaults(t, s.Create(Rule{Name: "deeper", Source: "a.b.contoso.com/a", Target: "b"}), "UpstreamNotSupported source")
	// The set has a table of its own, and each call of ACR returns a new one.
	table[len(table)-1].Host = "gone"
	if err := s.Create(Rule{Name: "third", Source: "third.contoso.com/a", Target: "b"}); err != nil {
		t.Error(err)
	}
	ACR()[0].Host = "gone"
	if _, ok := ACR().Lookup("docker.io"); !ok {
		t.Error("ACR's table was changed")
	}
	// A table restricts without strict mode, too.
	_, err = Options{Upstreams: Table{{"quay.io", AuthOptional}}}.NewSet(Rule{Name: "x", Source: "ghcr.io/a", Target: "a"})
	wantFaults(t, err, "UpstreamNotSupported source")
	_, err = Options{Upstreams: Table{}}.NewSet(Rule{Name: "x", Source: "ghcr.io/a", Target: "a"})
	wantFaults(t, err, "UpstreamNotSupported source")
}

func TestACRSentences(t *testing.T) {
	for host, want := range map[string]string{
		"dhi.example":                    "Unsupported upstream or login server 'dhi.example' provided. Supported upstreams or login servers are: docker.io, ",
		"docker.io":                      "Cannot create cache rule pointing to Docker Hub without credentials. Please add a credential set to cache rule. Learn more: https://aka.ms/acr/cache-auth",
		"reg.westeurope.data.azurecr.io": "use 'reg.azurecr.io'",
		"reg.azurecr.io":                 "does not allow anonymous pull",
	} {
		_, err := Options{Strict: true}.NewSet(Rule{Name: "my-rule", Source: host + "/a", Target: "a"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}
	for p, want := range map[Policy]string{AuthOptional: "optional", AuthRequired: "required", AuthForbidden: "unauthenticated only"} {
		if p.String() != want {
			t.Errorf("%d is called %q", p, p)
		}
	}
}
