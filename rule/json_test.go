package rule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
)

const (
	identityID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/promoter"
	setID      = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/prod/credentialSets/hubset"
	tenant     = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	client     = "0f3b1c7e-1111-2222-3333-444455556666"
)

// known is an authenticator that was made from an id.
type known struct {
	password
	ref Reference
}

type resolver struct{}

var errNotAssigned = errors.New("the specified identity does not exist or is not associated with this registry")

func (resolver) CredentialSet(id string) (auth.Authenticator, error) {
	return known{ref: Reference{CredentialSetID: id}}, nil
}

func (resolver) Identity(id string) (auth.Authenticator, error) {
	if strings.HasSuffix(id, "/stranger") {
		return nil, errNotAssigned
	}
	return known{ref: Reference{IdentityID: id}}, nil
}

func (resolver) Reference(a auth.Authenticator) (Reference, error) {
	if k, ok := a.(known); ok {
		return k.ref, nil
	}
	return Reference{}, fmt.Errorf("%T has no id", a)
}

func body(fields string) string {
	return `{"properties":{"sourceRepository":"dev.azurecr.io/app","targetRepository":"app"` + fields + `}}`
}

const garFields = `"additionalAuthenticationProperties":{"authenticationType":"GoogleArtifactRegistry","projectNumber":"123456789012",` +
	`"workloadIdentityPool":"my-pool","workloadIdentityProvider":"my-<provider>"}`

var resources = map[string]string{
	"anonymous":      `{"properties":{"sourceRepository":"quay.io/*","targetRepository":"quay/*"}}`,
	"credential set": body(`,"credentialSetResourceId":"` + setID + `"`),
	"identity":       `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + identityID + `":{}}},` + body("")[1:],
	"federated":      body(`,"additionalAuthenticationProperties":{"authenticationType":"FederatedIdentity","tenantId":"` + tenant + `","federatedClientId":"` + client + `"}`),
	"google":         `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + identityID + `":{}}},` + body("," + garFields)[1:],
}

func TestResourceToRuleAndBack(t *testing.T) {
	want := map[string]auth.Authenticator{
		"anonymous":      nil,
		"credential set": known{ref: Reference{CredentialSetID: setID}},
		"identity":       known{ref: Reference{IdentityID: identityID}},
		"federated":      auth.FederatedIdentity{TenantID: tenant, ClientID: client},
	}
	for name, text := range resources {
		t.Run(name, func(t *testing.T) {
			var in Resource
			if err := json.Unmarshal([]byte(text), &in); err != nil {
				t.Fatal(err)
			}
			r, err := in.Rule("my-rule", resolver{})
			if err != nil {
				t.Fatal(err)
			}
			if r.Name != "my-rule" || r.Source != in.SourceRepository || r.Target != in.TargetRepository || r.Source == "" {
				t.Errorf("rule %+v", r)
			}
			if a, ok := want[name]; ok && r.Auth != a {
				t.Errorf("authenticator %#v, want %#v", r.Auth, a)
			}
			out, err := NewResource(r, resolver{})
			if err != nil {
				t.Fatal(err)
			}
			if out.Name != "my-rule" || out.ProvisioningState != Succeeded {
				t.Errorf("resource %+v", out)
			}
			out.Name, out.ProvisioningState = "", ""
			a, _ := json.Marshal(in)
			b, err := json.Marshal(out)
			if err != nil || !bytes.Equal(a, b) {
				t.Errorf("came back as\n%s, want\n%s, %v", b, a, err)
			}
			if !bytes.Equal(compact(t, a), compact(t, []byte(text))) {
				t.Errorf("written as\n%s, want\n%s", a, text)
			}
		})
	}
}

// compact brings JSON into one form, with sorted keys.
func compact(t *testing.T, data []byte) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	out, _ := json.Marshal(v)
	return out
}

func TestUnsupportedFormsAreKeptAndRefused(t *testing.T) {
	for _, name := range []string{"google", "federated"} {
		var in Resource
		if err := json.Unmarshal([]byte(resources[name]), &in); err != nil {
			t.Fatal(err)
		}
		r, err := in.Rule("my-rule", resolver{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSet(r)
		if err != nil {
			t.Fatalf("it can be kept: %v", err)
		}
		m, _ := s.Match(t.Context(), "app")
		_, err = m.Rule.Auth.Credential(t.Context(), auth.Request{Rule: "my-rule", Host: "dev.azurecr.io"})
		if _, ok := errors.AsType[*auth.DeniedError](err); !ok || !strings.Contains(err.Error(), "my-rule") {
			t.Errorf("%s: used: %v", name, err)
		}
	}
}

func TestResponseIsRead(t *testing.T) {
	text := `{"id":"/subscriptions/s/x/cacheRules/my-rule","name":"my-rule","type":"microsoft.containerregistry/registries/cacherules",
	 "systemData":{"createdBy":"me"},
	 "identity":{"type":"UserAssigned","principalId":null,"userAssignedIdentities":{"` + identityID + `":{"clientId":"c","principalId":"p"}}},
	 "properties":{"sourceRepository":"dev.azurecr.io/app","targetRepository":"app","credentialSetResourceId":null,
	  "creationDate":"2026-03-14T15:09:26Z","provisioningState":"Updating"}}`
	var r Resource
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	want := Resource{ID: "/subscriptions/s/x/cacheRules/my-rule", Name: "my-rule", SourceRepository: "dev.azurecr.io/app", TargetRepository: "app",
		IdentityID: identityID, CreationDate: "2026-03-14T15:09:26Z", ProvisioningState: "Updating"}
	a, _ := json.Marshal(want)
	b, _ := json.Marshal(r)
	if !bytes.Equal(a, b) || !strings.Contains(string(b), `"type":"Microsoft.ContainerRegistry/registries/cacheRules"`) ||
		!strings.Contains(string(b), "2026-03-14") || !strings.Contains(string(b), "Updating") {
		t.Errorf("read %s, want %s", b, a)
	}
	if rule, err := r.Rule("", resolver{}); err != nil || rule.Name != "my-rule" {
		t.Errorf("%+v, %v", rule, err)
	}
}

func TestResourceFaults(t *testing.T) {
	identity := func(s string) string { return `{"identity":` + s + `,` + body("")[1:] }
	for text, want := range map[string][]string{
		`[]`:                                    {"InvalidProperty", "InvalidProperty properties"},
		`{}`:                                    {"InvalidProperty properties"},
		`{"properties":null}`:                   {"InvalidProperty properties"},
		`{"properties":[]}`:                     {"InvalidProperty properties", "InvalidProperty properties.sourceRepository", "InvalidProperty properties.targetRepository"},
		`{"properties":{"sourceRepository":7}}`: {"InvalidProperty properties.sourceRepository", "InvalidProperty properties.targetRepository"},
		body(`,"targetRepository":"b"`):         {"InvalidProperty properties.targetRepository"},
		body(`,"TargetRepository":"b"`):         {"InvalidProperty properties.TargetRepository"},
		body(`,"syncMode":"activesync"`):        {"InvalidProperty properties.syncMode"},
		body(`,"credentialSetResourceId":{}`):   {"InvalidProperty properties.credentialSetResourceId"},
		body(`,"additionalAuthenticationProperties":"x"`):                                     {"InvalidProperty properties.additionalAuthenticationProperties"},
		`{"location":"west",` + body("")[1:]:                                                  {"InvalidProperty location"},
		`{"type":"Microsoft.Storage/x",` + body("")[1:]:                                       {"InvalidProperty type"},
		identity(`{"type":"SystemAssigned"}`):                                                 {"InvalidProperty identity.type"},
		identity(`{"type":"SystemAssigned, UserAssigned","userAssignedIdentities":{"a":{}}}`): {"InvalidProperty identity.type"},
		identity(`{"type":"None","userAssignedIdentities":{"a":{}}}`):                         {"InvalidProperty identity.type"},
		identity(`{"type":"UserAssigned"}`):                                                   {"InvalidProperty identity.userAssignedIdentities"},
		identity(`{"type":"UserAssigned","userAssignedIdentities":{"a":{},"b":{}}}`):          {"InvalidProperty identity.userAssignedIdentities"},
		identity(`{"type":"UserAssigned","userAssignedIdentities":{"a":{},"a":{}}}`):          {"InvalidProperty identity.userAssignedIdentities.a"},
		identity(`{"type":"UserAssigned","userAssignedIdentities":{"a":null}}`):               {"InvalidProperty identity.userAssignedIdentities.a"},
		identity(`{"type":"UserAssigned","userAssignedIdentities":{"a":{}},"x":1}`):           {"InvalidProperty identity.x"},
		`{"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + identityID + `":{}}},` +
			body(`,"credentialSetResourceId":"` + setID + `"`)[1:]: {"ConflictingAuthentication identity"},
		body(`,"creationDate":"` + strings.Repeat("x", MaxResourceSize) + `"`): {"InvalidProperty"},
	} {
		var r Resource
		err := json.Unmarshal([]byte(text), &r)
		if err == nil {
			t.Errorf("%.200s is not refused", text)
			continue
		}
		t.Run(fmt.Sprintf("%.80s", text), func(t *testing.T) { wantFaults(t, err, want...) })
		if a, _ := json.Marshal(r); !strings.Contains(string(a), `"sourceRepository":""`) {
			t.Errorf("a refused resource was kept: %s", a)
		}
	}
	for _, text := range []string{"", "null", "7", resources["anonymous"] + ` {}`, `{"properties":{}`, `{"a":1,}`} {
		if err := new(Resource).UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%q is not refused", text)
		}
	}
	var none Resource
	if err := json.Unmarshal([]byte(identity(`{"type":"None"}`)), &none); err != nil || none.IdentityID != "" {
		t.Errorf("%+v, %v", none, err)
	}
}

func TestRuleFaults(t *testing.T) {
	type faults = []string
	fed := func(fields string) json.RawMessage {
		return json.RawMessage(`{"authenticationType":"FederatedIdentity"` + fields + `}`)
	}
	good := `,"tenantId":"` + tenant + `","federatedClientId":"` + client + `"`
	const at = "properties.additionalAuthenticationProperties"
	for name, c := range map[string]struct {
		r    Resource
		want faults
	}{
		"short name":       {Resource{Name: "rule"}, faults{"InvalidCacheRuleName name"}},
		"other name":       {Resource{Name: "another"}, faults{"InvalidProperty name"}},
		"identity id":      {Resource{IdentityID: "promoter"}, faults{"InvalidManagedIdentityResourceId identity.userAssignedIdentities"}},
		"set as identity":  {Resource{IdentityID: setID}, faults{"InvalidManagedIdentityResourceId identity.userAssignedIdentities"}},
		"identity as set":  {Resource{CredentialSetID: identityID}, faults{"InvalidCredentialSetResourceId properties.credentialSetResourceId"}},
		"empty part":       {Resource{CredentialSetID: strings.Replace(setID, "/s/", "//", 1)}, faults{"InvalidCredentialSetResourceId properties.credentialSetResourceId"}},
		"longer id":        {Resource{CredentialSetID: setID + "/x"}, faults{"InvalidCredentialSetResourceId properties.credentialSetResourceId"}},
		"both":             {Resource{CredentialSetID: setID, IdentityID: identityID}, faults{"ConflictingAuthentication identity"}},
		"not assigned":     {Resource{IdentityID: strings.Replace(identityID, "promoter", "stranger", 1)}, faults{"UnresolvedAuthentication identity.userAssignedIdentities"}},
		"no variant":       {Resource{Additional: json.RawMessage(`{}`)}, faults{"InvalidProperty " + at + ".authenticationType"}},
		"no tenant":        {Resource{Additional: fed(`,"federatedClientId":"` + client + `"`)}, faults{"InvalidProperty " + at + ".tenantId"}},
		"no guid":          {Resource{Additional: fed(`,"tenantId":"contoso","federatedClientId":"` + client + `"`)}, faults{"InvalidProperty " + at + ".tenantId"}},
		"unknown field":    {Resource{Additional: fed(good + `,"audience":"x"`)}, faults{"InvalidProperty " + at + ".audience"}},
		"federated and id": {Resource{Additional: fed(good), IdentityID: identityID}, faults{"ConflictingAuthentication identity"}},
		"federated, set":   {Resource{Additional: fed(good), CredentialSetID: setID}, faults{"ConflictingAuthentication identity"}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := "my-rule"
			if name == "short name" {
				asked = ""
			}
			r, err := c.r.Rule(asked, resolver{})
			wantFaults(t, err, c.want...)
			if r.Name != "" {
				t.Error("a rule came with the error")
			}
		})
	}
	_, err := Resource{IdentityID: strings.Replace(identityID, "promoter", "stranger", 1)}.Rule("my-rule", resolver{})
	if !errors.Is(err, errNotAssigned) || !strings.Contains(err.Error(), "not associated with this registry") {
		t.Errorf("the resolver's error is lost: %v", err)
	}
	_, err = Resource{CredentialSetID: setID}.Rule("my-rule", nil)
	wantFaults(t, err, "UnresolvedAuthentication")
	upper := Resource{CredentialSetID: strings.ToUpper(setID)}
	if _, err := upper.Rule("my-rule", resolver{}); err != nil {
		t.Errorf("ARM does not mind the case: %v", err)
	}
}

func TestNewResourceFaults(t *testing.T) {
	r := Rule{Name: "my-rule", Source: "quay.io/a", Target: "a", Auth: password{}}
	_, err := NewResource(r, resolver{})
	wantFaults(t, err, "UnresolvedAuthentication auth")
	_, err = NewResource(r, nil)
	wantFaults(t, err, "UnresolvedAuthentication auth")
	r.Auth = known{}
	_, err = NewResource(r, resolver{})
	wantFaults(t, err, "UnresolvedAuthentication auth")
	r.Auth = known{ref: Reference{IdentityID: "x"}}
	_, err = NewResource(r, resolver{})
	wantFaults(t, err, "InvalidManagedIdentityResourceId identity.userAssignedIdentities")
	r.Name, r.Auth = "r", &auth.FederatedIdentity{TenantID: tenant, ClientID: client}
	_, err = NewResource(r, nil)
	wantFaults(t, err, "InvalidCacheRuleName name")
}

func FuzzJSON(f *testing.F) {
	for _, text := range resources {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"properties":{"sourceRepository":"a","sourceRepository":"b"}}`))
	f.Add([]byte(`{"properties":{"sourceRepository":"\ud800","targetRepository":"<>","additionalAuthenticationProperties":{"a":[1e9,"\u2028"]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r, again Resource
		if err := r.UnmarshalJSON(data); err != nil {
			return
		}
		once, err := json.Marshal(r)
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		if err := json.Unmarshal(once, &again); err != nil {
			t.Fatalf("cannot be read back: %v\n%s", err, once)
		}
		if twice, _ := json.Marshal(again); !bytes.Equal(once, twice) {
			t.Fatalf("%s\nbecame %s", once, twice)
		}
		rule, err := r.Rule("my-rule", resolver{})
		if err != nil {
			return
		}
		back, err := NewResource(rule, resolver{})
		if err != nil {
			t.Fatalf("%+v: %v", rule, err)
		}
		if back.SourceRepository != r.SourceRepository || back.TargetRepository != r.TargetRepository ||
			back.CredentialSetID != r.CredentialSetID || back.IdentityID != r.IdentityID {
			t.Fatalf("%+v\nbecame %+v", r, back)
		}
	})
}

// TestFederatedIdentityInEveryShape: a rule may have a federated identity like any other
// authenticator, as a value and as a pointer, but it gives no credential.
func TestFederatedIdentityInEveryShape(t *testing.T) {
	f := auth.FederatedIdentity{TenantID: tenant, ClientID: client}
	for _, a := range []auth.Authenticator{f, &f} {
		s, err := NewSet(Rule{Name: "my-rule", Source: "dev.azurecr.io/app", Target: "app", Auth: password{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetAuth("my-rule", a); err != nil {
			t.Errorf("%T: attached: %v", a, err)
		}
		if err := s.Create(Rule{Name: "another", Source: "other.azurecr.io/*", Target: "other/*", Auth: a}); err != nil {
			t.Errorf("%T: created: %v", a, err)
		}
		for r := range s.All() {
			if r.Auth != a {
				t.Errorf("%T: listed as %#v", a, r.Auth)
			}
			out, err := NewResource(r, nil)
			if err != nil {
				t.Fatalf("%T: written: %v", a, err)
			}
			data, err := json.Marshal(out)
			if err != nil || !strings.Contains(string(data), `{"authenticationType":"FederatedIdentity","tenantId":"`+tenant+`","federatedClientId":"`+client+`"}`) {
				t.Errorf("%T: written as %s, %v", a, data, err)
			}
			var in Resource
			if err := json.Unmarshal(data, &in); err != nil {
				t.Fatal(err)
			}
			if back, err := in.Rule("", nil); err != nil || back.Auth != f {
				t.Errorf("%T: came back as %#v, %v", a, back.Auth, err)
			}
		}
		m, err := s.Match(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Rule.Auth.Credential(t.Context(), auth.Request{Rule: "my-rule", Host: "dev.azurecr.io"}); !errors.Is(err, auth.ErrFederatedIdentity) {
			t.Errorf("%T: used: %v", a, err)
		}
		if err := s.SetAuth("my-rule", password{}); err != nil {
			t.Errorf("%T: taken off: %v", a, err)
		}
	}
	// A resource that could not be parsed again is not written.
	for _, bad := range []auth.FederatedIdentity{{}, {TenantID: "contoso", ClientID: client}, {TenantID: tenant, ClientID: "app"}} {
		_, err := NewResource(Rule{Name: "my-rule", Source: "dev.azurecr.io/app", Target: "app", Auth: bad}, nil)
		if !errors.Is(err, CodeProperty) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
