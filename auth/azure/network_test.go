package azure_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/rule"
)

const (
	home  = "11111111-1111-1111-1111-111111111111"
	other = "22222222-2222-2222-2222-222222222222"
)

// TestMatrix has every case of ACR's table: 3 networks, 2 tenancies, 4 forms,
// with and without trusted services.
func TestMatrix(t *testing.T) {
	const no, yes, trusted = "no", "yes", "with trusted services"
	forms := []azure.Form{azure.FormCredentials, azure.FormServicePrincipal, azure.FormToken, azure.FormManagedIdentity}
	for _, c := range []struct {
		network azure.Network
		tenant  string
		want    [4]string // by form
	}{
		{azure.AllNetworks, home, [4]string{yes, yes, yes, yes}},
		{azure.AllNetworks, other, [4]string{yes, yes, yes, no}},
		{azure.SelectedNetworks, home, [4]string{yes, yes, yes, trusted}},
		{azure.SelectedNetworks, other, [4]string{trusted, trusted, trusted, no}},
		{azure.PrivateLink, home, [4]string{yes, yes, yes, trusted}},
		{azure.PrivateLink, other, [4]string{no, no, no, no}},
	} {
		for i, form := range forms {
			for _, on := range []bool{false, true} {
				err := azure.Source{TenantID: strings.ToUpper(c.tenant), Network: c.network, TrustedServices: on}.Supports(home, form)
				want := c.want[i] == yes || c.want[i] == trusted && on
				if (err == nil) != want || err != nil && (!errors.Is(err, azure.ErrUnsupported) || !strings.Contains(err.Error(), "; ")) {
					t.Errorf("%s, tenant %s, %s, trusted %v: %v", c.network, c.tenant, form, on, err)
				}
			}
		}
	}
	if err := (azure.Source{}).Supports(home, azure.FormManagedIdentity); err != nil {
		t.Errorf("the zero value is public and of this tenant: %v", err)
	}
	if err := (azure.Source{Network: "vpn"}).Supports(home, azure.FormToken); !errors.Is(err, azure.ErrUnsupported) {
		t.Errorf("an unknown network: %v", err)
	}
}

type anybody struct{}

func (anybody) Credential(context.Context, auth.Request) (auth.Credential, error) {
	return auth.Credential{}, nil
}

// TestSourcesInARuleSet: unsupported combinations are refused when a rule is made, and when its
// authenticator is replaced.
func TestSourcesInARuleSet(t *testing.T) {
	const host = "dev.azurecr.io"
	id := armID("promote")
	identities, err := azure.NewIdentities(azure.Options{TenantID: home}, id)
	if err != nil {
		t.Fatal(err)
	}
	uami, err := identities.UserAssigned(id)
	if err != nil {
		t.Fatal(err)
	}
	sp, err := azure.NewServicePrincipal(azure.Options{}, other, other, auth.Value{Text: auth.NewSensitive("s")})
	if err != nil {
		t.Fatal(err)
	}
	set := &auth.CredentialSet{Name: "set", LoginServer: host}
	sources := azure.Sources{TenantID: home, Hosts: map[string]azure.Source{host: {TenantID: other, Network: azure.AllNetworks}}}
	rules, err := rule.Options{Check: sources.Check}.NewSet(rule.Rule{Name: "promote", Source: host + "/app", Target: "app", Auth: set})
	if err != nil {
		t.Fatal(err)
	}
	err = rules.SetAuth("promote", uami)
	if !errors.Is(err, rule.CodeAuthenticationUnsupported) || !errors.Is(err, azure.ErrUnsupported) || !strings.Contains(err.Error(), "credential set") {
		t.Errorf("an identity for another tenant: %v", err)
	}
	for what, err := range map[string]error{
		"create":  rules.Create(rule.Rule{Name: "second", Source: host + "/second", Target: "second", Auth: uami}),
		"replace": rules.Replace(rule.Rule{Name: "promote", Source: host + "/app", Target: "app", Auth: uami}),
		"new":     second(rule.Options{Check: sources.Check}.NewSet(rule.Rule{Name: "promote", Source: host + "/app", Target: "app", Auth: uami})),
	} {
		if !errors.Is(err, azure.ErrUnsupported) || !strings.Contains(err.Error(), "one tenant only; use a credential set") {
			t.Errorf("%s: the reason or the way out is missing: %v", what, err)
		}
	}
	for _, a := range []auth.Authenticator{sp, set, anybody{}, auth.FederatedIdentity{}} {
		if err := rules.SetAuth("promote", a); err != nil {
			t.Errorf("%T: %v", a, err)
		}
	}
	sources.Hosts[host] = azure.Source{TenantID: other, Network: azure.PrivateLink}
	for _, a := range []auth.Authenticator{uami, sp, set} {
		if err := rules.SetAuth("promote", a); !errors.Is(err, azure.ErrUnsupported) {
			t.Errorf("%T: %v", a, err)
		}
	}
	if err := sources.Check("other.azurecr.io", uami); err != nil {
		t.Errorf("a source that is not declared: %v", err)
	}
}
