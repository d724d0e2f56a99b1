package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestManagedIdentity pulls twice by a rule with an identity. Blobs come from the data
// endpoint; no request is sent twice, and none to another host.
func TestManagedIdentity(t *testing.T) {
	s := newScene(t)
	id := s.az.NewIdentity("promote")
	s.dev.Grant(id.PrincipalID, "team-a/api")
	img := s.dev.Content.AddImage("team-a/api", "1.4.0", upstreamtest.Layers(2, 1000))
	s.start(s.file([]*azuretest.Identity{id}, "rules:", s.rule("promoted", "identity: "+id.ResourceID)))
	s.wantImage("promoted", "1.4.0", img)
	s.wantImage("promoted", "1.4.0", img)

	links := 0
	for _, c := range s.az.Calls() {
		switch {
		case c.Endpoint == azuretest.V2 && c.Method == http.MethodGet && strings.Contains(c.URL.Path, "/blobs/") && c.Status == http.StatusTemporaryRedirect:
			links++
		case c.Endpoint == azuretest.Data && (c.Host != s.dev.DataServer() || c.Status != http.StatusOK):
			t.Errorf("the data endpoint was asked %s: %d", c.URL.Path, c.Status)
		}
	}
	for _, one := range []struct {
		what      string
		got, want int
	}{
		{"requests to the managed-identity endpoint", s.az.Count(azuretest.AppService), 1},
		{"requests to that of a virtual machine", s.az.Count(azuretest.IMDS), 0},
		{"exchanges", s.az.Count(azuretest.Exchange), 1},
		{"registry tokens", s.az.Count(azuretest.Token), 1},
		{"links to blobs", links, 3},
		{"requests to the data endpoint", s.az.Count(azuretest.Data), 3},
	} {
		if one.got != one.want {
			t.Errorf("%s: %d, want %d", one.what, one.got, one.want)
		}
	}
}

// TestMissingIdentity: an identity that is assigned here, but that the machine does not
// have.
func TestMissingIdentity(t *testing.T) {
	s := newScene(t)
	id := s.az.NewIdentity("promote")
	s.dev.Grant(id.PrincipalID)
	s.dev.Content.AddImage("team-a/api", "1.4.0", upstreamtest.Layers(1, 1000))
	id.Detach()
	s.start(s.file([]*azuretest.Identity{id}, "rules:", s.rule("promoted", "identity: "+id.ResourceID)))
	s.want("promoted/team-a/api/manifests/1.4.0", http.StatusForbidden, `"DENIED"`,
		"the specified identity '"+strings.ToLower(id.ResourceID)+"' does not exist or is not associated with this registry")
	if s.az.Count(azuretest.AppService) == 0 {
		t.Error("the managed-identity endpoint was not asked")
	}
	for _, c := range s.az.Calls() {
		if c.Endpoint != azuretest.AppService {
			t.Errorf("without a credential, %s%s was asked", c.Host, c.URL.Path)
		}
	}
}

// TestTwoIdentities: two rules for one registry, each with an identity that may pull one
// repository. Neither gets content of the other's, even if it is stored already, in
// whichever way the registry refuses.
func TestTwoIdentities(t *testing.T) {
	for name, refuse := range map[string]bool{"no token": true, "a token for nothing": false} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.dev.SetRefuseTokens(refuse)
			a, b := s.az.NewIdentity("team-a"), s.az.NewIdentity("team-b")
			s.dev.Grant(a.PrincipalID, "team-a/api")
			s.dev.Grant(b.PrincipalID, "team-b/api")
			imgA := s.dev.Content.AddImage("team-a/api", "v1", upstreamtest.Layers(1, 1000))
			imgB := s.dev.Content.AddImage("team-b/api", "v1", upstreamtest.Layers(1, 2000))
			s.start(s.file([]*azuretest.Identity{a, b}, "rules:", s.rule("a", "identity: "+a.ResourceID), s.rule("b", "identity: "+b.ResourceID)))
			s.wantImage("a", "v1", imgA)
			s.wantImage("b", "v1", imgB)
			for _, not := range []struct {
				target string
				id     *azuretest.Identity
				img    upstreamtest.Image
			}{{"a", a, imgB}, {"b", b, imgA}} {
				base := not.target + "/" + not.img.Repository
				for _, path := range []string{"/manifests/v1", "/manifests/" + not.img.Descriptor.Digest.String(), "/blobs/" + not.img.Layers[0].Digest.String()} {
					s.want(base+path, http.StatusForbidden, `"DENIED"`, "identity '"+strings.ToLower(not.id.ResourceID)+"'", "repository '"+not.img.Repository+"'",
						"Container Registry Repository Reader", "Container Registry Repository Catalog Lister", "AcrPull")
				}
			}
		})
	}
}

// vaultSet is a credential set whose user name and password lie in a vault, with more
// lines.
func (s *scene) vaultSet(name string, v *azuretest.Vault, more string) string {
	return "  - {name: " + name + ", loginServer: " + s.dev.LoginServer() + ", username: {keyVault: " + v.SecretID("user") +
		"}, password: {keyVault: " + v.SecretID("password") + "}" + more + "}"
}

// TestKeyVault: ACR tokens whose names and passwords lie in two vaults. One is
// read as the system-assigned identity, one as a user-assigned one, each of which may read
// only that vault, and may not pull. A third may not be read.
func TestKeyVault(t *testing.T) {
	s := newScene(t)
	own, id := s.az.SystemAssigned(), s.az.NewIdentity("vault-reader")
	vaults := map[string]*azuretest.Vault{}
	for _, name := range []string{"own", "assigned", "closed"} {
		v := s.az.NewVault(name + "-vault")
		user, password := "acr-token-"+name+"-reader", "password-of-"+name
		v.Set("user", user)
		v.Set("password", password)
		s.dev.AddToken(user, password, name+"/api")
		vaults[name] = v
	}
	vaults["own"].Grant(own.PrincipalID)
	vaults["assigned"].Grant(id.PrincipalID)
	first := s.dev.Content.AddImage("own/api", "v1", upstreamtest.Layers(1, 1000))
	second := s.dev.Content.AddImage("assigned/api", "v1", upstreamtest.Layers(1, 2000))
	s.dev.Content.AddImage("closed/api", "v1", upstreamtest.Layers(1, 3000))
	s.start(s.file([]*azuretest.Identity{id},
		"rules:", s.rule("x", "credentials: own"), s.rule("y", "credentials: assigned"), s.rule("z", "credentials: closed"),
		"credentials:", s.vaultSet("own", vaults["own"], ""), s.vaultSet("assigned", vaults["assigned"], ", identity: "+id.ResourceID), s.vaultSet("closed", vaults["closed"], "")))
	s.wantImage("x", "v1", first)
	s.wantImage("y", "v1", second)
	s.want("x/assigned/api/manifests/v1", http.StatusForbidden, `"DENIED"`, `the user of credential set \"own\"`, "AcrPull")
	s.want("z/closed/api/manifests/v1", http.StatusForbidden, `"DENIED"`, `the user name of credential set \"closed\" cannot be read`)
	s.p.until(t, "the warning of a vault", func() bool { return strings.Contains(s.p.log.String(), "credentials cannot be read") })
	if log := s.p.log.String(); strings.Count(log, "credentials cannot be read") != 1 || !strings.Contains(log, "Key Vault Secrets User") || !strings.Contains(log, vaults["closed"].SecretID("user")) {
		t.Error("the log does not warn of the vault that is closed, and of that one alone")
	}
	if n := s.az.Count(azuretest.AppService); n != 2 {
		t.Errorf("the managed-identity endpoint was asked %d times, want once for each identity", n)
	}
	if n := s.az.Count(azuretest.Exchange); n != 0 {
		t.Errorf("%d Entra tokens were shown to the registry, which takes user and password", n)
	}
}

// TestFederatedIdentity: the form is accepted, and a pull is refused with its own reason,
// before any request is sent.
func TestFederatedIdentity(t *testing.T) {
	const tenant, application = "22222222-2222-2222-2222-222222222222", "33333333-3333-3333-3333-33333333abCD"
	s := newScene(t)
	s.dev.Content.AddImage("team-a/api", "v1", upstreamtest.Layers(1, 1000))
	file := s.file(nil, "rules:", s.rule("promoted", "federatedIdentity: {tenant: "+tenant+", clientID: "+application+"}"))
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), nil, []string{"-check", "-config", path}, &stdout, &stderr); code != exitOK {
		t.Errorf("-check: exit code %d, said %s", code, &stderr)
	}
	s.start(file)
	s.want("promoted/team-a/api/manifests/v1", http.StatusForbidden, `"DENIED"`,
		`rule \"promoted\" uses a federated identity (tenant \"`+tenant+`\", client \"`+application+`\"), which is not supported yet`)
	if calls := s.az.Calls(); len(calls) > 0 {
		t.Errorf("somebody was asked: %s%s", calls[0].Host, calls[0].URL.Path)
	}
}
