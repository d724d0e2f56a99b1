package rule

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/arm"
)

// Resolver turns the resource ids in a [Resource] into authenticators and back.
// Implementations must be safe for concurrent use. Their errors must hold no secret,
// since they become part of the error of [Resource.Rule] or [NewResource].
type Resolver interface {
	// CredentialSet returns the authenticator of the credential set with that
	// resource id.
	CredentialSet(id string) (auth.Authenticator, error)
	// Identity returns the authenticator of the user-assigned managed identity
	// with that resource id. One that is not assigned to the registry is an
	// error.
	Identity(id string) (auth.Authenticator, error)
	// Reference returns the resource id from which an authenticator was made.
	Reference(a auth.Authenticator) (Reference, error)
}

// Reference is the resource id from which an authenticator was made. Exactly one of its
// fields is set.
type Reference struct{ CredentialSetID, IdentityID string }

// Unsupported is the [auth.Authenticator] of a form of authentication that ACR supports
// and this library does not. A rule with it can be stored, listed and written, but not
// used: requests of its credential fail. It must not be changed.
type Unsupported struct {
	// Type is the authenticationType, such as GoogleArtifactRegistry.
	Type string
	// Properties is the JSON of additionalAuthenticationProperties.
	Properties json.RawMessage
	// Reference is the credential set or identity of the same resource. It may be
	// empty.
	Reference Reference
}

// Credential always fails with an [*auth.DeniedError].
func (u *Unsupported) Credential(_ context.Context, r auth.Request) (auth.Credential, error) {
	return auth.Credential{}, &auth.DeniedError{
		Reason: fmt.Sprintf("rule %q uses authentication of type %q, which is not supported", r.Rule, u.Type),
	}
}

// federated is the authenticationType of ACR's cross-tenant authentication, which is
// announced.
const federated = "FederatedIdentity"

// Rule returns the rule with that name that the resource describes. If name is empty,
// the Name of the resource is used; otherwise the two must not differ. The error joins
// one [*Error] for each fault. A [Set] checks the rule further when it is added.
// resolver may be nil if the resource has no ids.
func (r Resource) Rule(name string, resolver Resolver) (Rule, error) {
	f := &faults{rule: name}
	switch {
	case name == "":
		name, f.rule = r.Name, r.Name
	case r.Name != "" && r.Name != name:
		f.add(CodeProperty, "name", "The name '%s' is not that of the cache rule, '%s'.", shorten(r.Name), shorten(name))
	}
	f.checkName("name", name, true)
	f.checkIDs(r.CredentialSetID, r.IdentityID)
	rule := Rule{Name: name, Source: r.SourceRepository, Target: r.TargetRepository}
	if len(f.list) == 0 {
		rule.Auth = r.authenticator(f, resolver)
	}
	if err := f.err(); err != nil {
		return Rule{}, err
	}
	return rule, nil
}

// authenticator returns the authenticator that the resource names.
func (r Resource) authenticator(f *faults, resolver Resolver) auth.Authenticator {
	if r.Additional != nil {
		return r.additional(f)
	}
	if r.CredentialSetID == "" && r.IdentityID == "" {
		return nil
	}
	if resolver == nil {
		f.add(CodeUnresolved, "", "Credential sets and managed identities are not available here.")
		return nil
	}
	field, resolve, id := "identity.userAssignedIdentities", resolver.Identity, r.IdentityID
	if r.CredentialSetID != "" {
		field, resolve, id = "properties.credentialSetResourceId", resolver.CredentialSet, r.CredentialSetID
	}
	a, err := resolve(id)
	if err != nil {
		f.wrap(CodeUnresolved, field, err)
	}
	return a
}

const additionalField = "properties.additionalAuthenticationProperties"

// additional parses additionalAuthenticationProperties, whose authenticationType says
// which fields it has.
func (r Resource) additional(f *faults) auth.Authenticator {
	o := f.object(additionalField, r.Additional)
	kind := o.needed("authenticationType")
	if kind != federated {
		return &Unsupported{Type: kind, Properties: r.Additional, Reference: Reference{r.CredentialSetID, r.IdentityID}}
	}
	identity := auth.FederatedIdentity{TenantID: o.guid("tenantId"), ClientID: o.guid("federatedClientId")}
	o.end()
	if r.IdentityID != "" {
		f.conflict("a federated identity and a managed identity")
	}
	if r.CredentialSetID != "" {
		f.conflict("a federated identity and a credential set")
	}
	return identity
}

// guid takes a string field that must be a GUID.
func (o *object) guid(name string) string {
	had := len(o.faults.list)
	s := o.needed(name)
	if len(o.faults.list) == had && !arm.IsGUID(s) {
		o.faults.add(CodeProperty, o.path(name), "'%s' is no GUID.", shorten(s))
	}
	return s
}

// NewResource returns the resource of a rule, with the provisioning state [Succeeded].
// resolver may be nil if the rule's authenticator needs none. Fields of a rule that ACR
// does not have, such as Freshness, are left out.
func NewResource(r Rule, resolver Resolver) (Resource, error) {
	f := &faults{rule: r.Name}
	f.checkName("name", r.Name, true)
	out := Resource{Name: r.Name, SourceRepository: r.Source, TargetRepository: r.Target, ProvisioningState: Succeeded}
	out.setAuth(f, r.Auth, resolver)
	if err := f.err(); err != nil {
		return Resource{}, err
	}
	return out, nil
}

func (r *Resource) setAuth(f *faults, a auth.Authenticator, resolver Resolver) {
	if anonymous(a) {
		return
	}
	var ref Reference
	switch a := a.(type) {
	case auth.FederatedIdentity:
		r.setFederated(f, a)
	case *auth.FederatedIdentity:
		r.setFederated(f, *a)
	case *Unsupported:
		r.Additional, ref = a.Properties, a.Reference
	default:
		if resolver == nil {
			f.add(CodeUnresolved, "auth", "The resource id of this rule's authenticator is not known, since there is no resolver.")
			return
		}
		var err error
		if ref, err = resolver.Reference(a); err != nil {
			f.wrap(CodeUnresolved, "auth", err)
			return
		}
		if ref == (Reference{}) {
			f.add(CodeUnresolved, "auth", "The authenticator of this rule has no resource id.")
		}
	}
	r.CredentialSetID, r.IdentityID = ref.CredentialSetID, ref.IdentityID
	f.checkIDs(r.CredentialSetID, r.IdentityID)
}

func (r *Resource) setFederated(f *faults, a auth.FederatedIdentity) {
	for _, id := range [][2]string{{"tenantId", a.TenantID}, {"federatedClientId", a.ClientID}} {
		if !arm.IsGUID(id[1]) { // Resource.Rule would refuse it
			f.add(CodeProperty, additionalField+"."+id[0], "'%s' is no GUID.", shorten(id[1]))
		}
	}
	r.Additional, _ = json.Marshal(struct { // strings always marshal
		Type   string `json:"authenticationType"`
		Tenant string `json:"tenantId"`
		Client string `json:"federatedClientId"`
	}{federated, a.TenantID, a.ClientID})
}

// checkIDs validates the resource ids, of which there may be one at most.
func (f *faults) checkIDs(set, identity string) {
	if identity != "" {
		if _, err := arm.Identity(identity); err != nil {
			f.add(CodeIdentityID, "identity.userAssignedIdentities", "Invalid user-assigned managed identity resource ID: %s", shorten(identity))
		}
	}
	if set != "" {
		if _, err := arm.CredentialSet(set); err != nil {
			f.add(CodeCredentialSetID, "properties.credentialSetResourceId", "Invalid credential set resource ID: %s", shorten(set))
		}
	}
	if identity != "" && set != "" {
		f.conflict("a managed identity and a credential set")
	}
}
