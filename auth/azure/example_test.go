package azure_test

import (
	"errors"
	"fmt"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/rule"
)

const (
	promote = "/subscriptions/11111111-2222-3333-4444-555555555555/resourcegroups/registries/providers/microsoft.managedidentity/userassignedidentities/promote"
	sets    = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/registries/providers/Microsoft.ContainerRegistry/registries/prod/credentialSets/"
)

func Example() {
	identities, err := azure.NewIdentities(azure.Options{TenantID: "11111111-2222-3333-4444-555555555555"}, promote)
	if err != nil {
		fmt.Println(err)
		return
	}
	uami, err := identities.UserAssigned(promote)
	if err != nil {
		fmt.Println(err)
		return
	}
	rules, err := rule.NewSet(rule.Rule{
		Name: "promote-api", Source: "devregistry.azurecr.io/team-a/api", Target: "promoted/team-a/api", Auth: uami,
	})
	fmt.Println(rules != nil, err)

	_, err = identities.UserAssigned("/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/registries/providers/Microsoft.ManagedIdentity/userAssignedIdentities/other")
	fmt.Println(errors.Is(err, azure.ErrNotAssigned))
	fmt.Println(rules.Create(rule.Rule{Name: "hub", Source: "docker.io/library/alpine", Target: "alpine", Auth: uami}) != nil)
	// Output:
	// true <nil>
	// true
	// true
}

// resolver reads and writes ACR's JSON with identities and credential sets.
type resolver struct {
	identities *azure.Identities
	sets       map[string]*auth.CredentialSet // by name
}

func (r resolver) Identity(id string) (auth.Authenticator, error) {
	return r.identities.UserAssigned(id)
}

func (r resolver) CredentialSet(id string) (auth.Authenticator, error) {
	if set := r.sets[id[len(sets):]]; set != nil {
		return set, nil
	}
	return nil, errors.New("no such credential set")
}

func (r resolver) Reference(a auth.Authenticator) (rule.Reference, error) {
	switch a := a.(type) {
	case *azure.UserAssigned:
		return rule.Reference{IdentityID: a.ResourceID()}, nil
	case *auth.CredentialSet:
		return rule.Reference{CredentialSetID: sets + a.Name}, nil
	}
	return rule.Reference{}, fmt.Errorf("%T has no resource id", a)
}

// A resolver turns the ids in ACR's JSON into authenticators and back.
func Example_resource() {
	identities, err := azure.NewIdentities(azure.Options{}, promote)
	if err != nil {
		fmt.Println(err)
		return
	}
	resolve := resolver{identities: identities}
	var resource rule.Resource
	if err := resource.UnmarshalJSON([]byte(`{
		"identity": {"type": "UserAssigned", "userAssignedIdentities": {"` + promote + `": {}}},
		"properties": {"sourceRepository": "devregistry.azurecr.io/team-a/api", "targetRepository": "promoted/team-a/api"}
	}`)); err != nil {
		fmt.Println(err)
		return
	}
	r, err := resource.Rule("promote-api", resolve)
	fmt.Println(r.Name, r.Source, err)
	back, err := rule.NewResource(r, resolve)
	fmt.Println(back.IdentityID == promote, err)
	// Output:
	// promote-api devregistry.azurecr.io/team-a/api <nil>
	// true <nil>
}
