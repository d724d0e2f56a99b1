package azure_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
)

// armID is the resource id of an identity that no machine has.
func armID(name string) string {
	return "/subscriptions/" + home + "/resourceGroups/Rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
}

// The abilities that a rule set and the upstream client look for.
var (
	_ auth.Checker     = (*azure.UserAssigned)(nil)
	_ auth.Invalidator = (*azure.UserAssigned)(nil)
	_ auth.Observer    = (*azure.UserAssigned)(nil)
	_ auth.Checker     = (*azure.ServicePrincipal)(nil)
	_ auth.Invalidator = (*azure.ServicePrincipal)(nil)
	_ auth.Observer    = (*azure.ServicePrincipal)(nil)
	_ auth.Checker     = (*auth.CredentialSet)(nil)
	_ auth.Invalidator = (*auth.CredentialSet)(nil)
	_ auth.Observer    = (*auth.CredentialSet)(nil)

	_ auth.SecretInvalidator = (*azure.KeyVaultSecret)(nil)
)

func TestAssigned(t *testing.T) {
	a, b := armID("First"), armID("Second")
	ids, err := azure.NewIdentities(azure.Options{}, b, strings.ToUpper(b), a)
	if err != nil {
		t.Fatal(err)
	}
	if got := ids.List(); len(got) != 2 || got[0] != strings.ToLower(a) || got[1] != strings.ToLower(b) {
		t.Errorf("assigned: %q", got)
	}
	u, err := ids.UserAssigned(strings.ToUpper(a))
	if err != nil || u.ResourceID() != strings.ToLower(a) || u.Check("dev.azurecr.io") != nil {
		t.Fatalf("%v", err)
	}
	if err := ids.Unassign(strings.ToLower(a)); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"unassign":   ids.Unassign(a),
		"a new one":  second(ids.UserAssigned(a)),
		"check":      u.Check("dev.azurecr.io"),
		"credential": second(u.Credential(t.Context(), auth.Request{Rule: "r", Host: "dev.azurecr.io"})),
		"never":      second(ids.UserAssigned(armID("third"))),
	} {
		denied, ok := errors.AsType[*auth.DeniedError](err)
		if !ok || !errors.Is(err, azure.ErrNotAssigned) || !strings.Contains(denied.Reason, "does not exist or is not associated with this registry") {
			t.Errorf("%s: %v", what, err)
		} else if what != "never" && !strings.Contains(denied.Reason, strings.ToLower(a)) {
			t.Errorf("%s: does not name the identity: %v", what, err)
		}
	}
	if err := ids.Assign(a); err != nil || u.Check("dev.azurecr.io") != nil {
		t.Errorf("assigned again: %v", err)
	}
	for _, bad := range []string{"", "promote", armID("")} {
		_, err := azure.NewIdentities(azure.Options{}, bad)
		for _, err := range []error{err, ids.Assign(bad), ids.Unassign(bad), second(ids.UserAssigned(bad))} {
			if err == nil || errors.Is(err, azure.ErrNotAssigned) || !strings.Contains(err.Error(), "invalid user-assigned managed identity resource ID") {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestHosts: a host that is not the login server of a registry in the cloud is refused before
// any request is sent, for every kind of authenticator.
func TestHosts(t *testing.T) {
	for cloud, own := range map[azure.Cloud]string{"": "dev.azurecr.io", azure.Public: "contoso-e7ggejfuhzhgedc8.azurecr.io", azure.China: "dev.azurecr.cn", azure.Government: "dev.azurecr.us", azure.Germany: "dev.azurecr.de"} {
		ids, err := azure.NewIdentities(azure.Options{Cloud: cloud}, armID("a"))
		if err != nil {
			t.Fatal(err)
		}
		u, err := ids.UserAssigned(armID("a"))
		if err != nil {
			t.Fatal(err)
		}
		sp, err := azure.NewServicePrincipal(azure.Options{Cloud: cloud}, home, home, auth.Env("NO_SUCH_VARIABLE"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(u.Check(own), sp.Check(own)); err != nil {
			t.Errorf("%s: %v", cloud, err)
		}
		for _, host := range []string{
			"", "docker.io", "dev.azurecr.com", "devazurecr.io", "evil-azurecr.io", "dev.azurecr.io.evil.example", "azurecr.io", "dev.azurecr.io:443", "dev.azurecr.io:8443",
			"dev.azurecr.io.", "DEV.azurecr.io", "dev.eastus.data.azurecr.io", "dev.eastus.geo.azurecr.io", "127.0.0.1", "x@dev.azurecr.io", "dev.azurecr.io/",
			strings.Replace("dev.azurecr.xx", "xx", map[bool]string{true: "cn", false: "io"}[strings.HasSuffix(own, ".io")], 1),
		} {
			r := auth.Request{Rule: "r", Host: host}
			for _, err := range []error{u.Check(host), second(u.Credential(t.Context(), r)), sp.Check(host), second(sp.Credential(t.Context(), r))} {
				if !errors.Is(err, auth.ErrHost) {
					t.Errorf("%s: %q: %v", cloud, host, err)
				}
			}
		}
	}
}

func TestOptions(t *testing.T) {
	secret := auth.Value{Text: auth.NewSensitive("s")}
	for want, err := range map[string]error{
		"cloud":      second(azure.NewIdentities(azure.Options{Cloud: "AWS"})),
		"tenant":     second(azure.NewIdentities(azure.Options{TenantID: "contoso"})),
		"tenant ":    second(azure.NewServicePrincipal(azure.Options{}, "contoso", home, secret)),
		"client id":  second(azure.NewServicePrincipal(azure.Options{}, home, "app", secret)),
		"secret":     second(azure.NewServicePrincipal(azure.Options{}, home, home, nil)),
		"cloud ":     second(azure.NewServicePrincipal(azure.Options{Cloud: "x"}, home, home, secret)),
		"credential": second(azure.NewKeyVaultSecret(azure.Options{}, "https://v.vault.azure.net/secrets/s", nil)),
	} {
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
