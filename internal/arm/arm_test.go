package arm

import (
	"strings"
	"testing"
)

const prefix = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/My_Group.(1)/providers/"

func TestIdentity(t *testing.T) {
	id := prefix + "Microsoft.ManagedIdentity/userAssignedIdentities/Promote-1"
	for _, spelling := range []string{id, strings.ToUpper(id), strings.ToLower(id)} {
		if got, err := Identity(spelling); err != nil || got != strings.ToLower(id) {
			t.Errorf("Identity(%q) = %q, %v", spelling, got, err)
		}
	}
	for _, bad := range []string{
		"", "/", "promote", id[1:], id + "/", id + "/more", "//" + id, strings.Replace(id, "Promote-1", "", 1),
		strings.Replace(id, "Promote-1", "a b", 1), strings.Replace(id, "Promote-1", "a?b", 1), strings.Replace(id, "Promote-1", "a%2fb", 1), strings.Replace(id, "Promote-1", "ä", 1),
		strings.Replace(id, "ManagedIdentity", "Compute", 1), strings.Replace(id, "userAssignedIdentities", "identities", 1),
		strings.Replace(id, "Promote", strings.Repeat("p", 1024), 1),
		prefix + "Microsoft.ContainerRegistry/registries/prod/credentialSets/hub",
	} {
		if got, err := Identity(bad); err == nil || got != "" || len(err.Error()) > 400 {
			t.Errorf("Identity(%q) = %q, %v", bad, got, err)
		}
	}
}

func TestCredentialSet(t *testing.T) {
	id := prefix + "Microsoft.ContainerRegistry/registries/Prod/credentialSets/Hub"
	if got, err := CredentialSet(id); err != nil || got != strings.ToLower(id) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := CredentialSet(prefix + "Microsoft.ContainerRegistry/registries/Prod"); err == nil || !strings.Contains(err.Error(), "credential set") {
		t.Errorf("a registry is no credential set: %v", err)
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add(prefix + "Microsoft.ManagedIdentity/userAssignedIdentities/a")
	f.Add("/subscriptions//resourceGroups//providers///")
	f.Fuzz(func(t *testing.T, id string) {
		got, err := Identity(id)
		if err != nil {
			return
		}
		if again, err := Identity(got); err != nil || again != got || strings.ContainsAny(got, "?#%\\ \n") {
			t.Errorf("%q became %q, then %q, %v", id, got, again, err)
		}
	})
}
