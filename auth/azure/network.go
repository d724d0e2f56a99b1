package azure

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pullthrough/pullthrough/auth"
)

// ErrUnsupported reports a form of authentication that does not work with the tenant or
// network of the source registry.
var ErrUnsupported = errors.New("azure: this authentication is not supported for this source")

// Network is how a source registry is reached.
type Network string

// The networks of a registry. The zero value of Network means [AllNetworks].
const (
	AllNetworks      Network = "public"      // public endpoint, all networks
	SelectedNetworks Network = "selected"    // public endpoint, selected networks
	PrivateLink      Network = "privateLink" // private endpoint in a virtual network
)

// Form is a way for a rule to authenticate to a source registry.
type Form string

// The forms that ACR has.
const (
	FormCredentials      Form = "credentials"
	FormServicePrincipal Form = "service principal"
	FormToken            Form = "ACR token"
	FormManagedIdentity  Form = "user-assigned managed identity"
)

// Source declares the tenant and network of a source registry, which rules are checked
// against when they are made. A registry offers no way to read them.
type Source struct {
	// TenantID is the tenant of the source. If empty, it is that of this registry.
	TenantID string
	// Network is how the source is reached. If empty, it is [AllNetworks].
	Network Network
	// TrustedServices says that the source allows trusted Azure services.
	TrustedServices bool
}

// Supports returns nil if a registry of the tenant may use form for the source,
// or an error that wraps [ErrUnsupported] and names the reason and the remedy.
// It is ACR's matrix:
//
//	source's network     same tenant                 other tenant
//	public, all          any form                    any but managed identity
//	public, selected     any form; managed identity  any but managed identity,
//	                     with trusted services       with trusted services
//	private link         any form; managed identity  none
//	                     with trusted services
//
// For a source in another tenant with selected networks, the address ranges of
// this registry must be allowed there too, which cannot be declared.
func (s Source) Supports(tenant string, form Form) error {
	other := s.TenantID != "" && !strings.EqualFold(s.TenantID, tenant)
	switch s.Network {
	case "", AllNetworks, SelectedNetworks, PrivateLink:
	default:
		return fmt.Errorf("%w: network %q is none of %s, %s, %s", ErrUnsupported, string(s.Network), AllNetworks, SelectedNetworks, PrivateLink)
	}
	reason := ""
	switch {
	case other && s.Network == PrivateLink:
		reason = "a source in another tenant that is reached by private link cannot be used; open a public endpoint with selected networks there"
	case other && form == FormManagedIdentity:
		reason = "a managed identity works in one tenant only; use a credential set"
	case s.TrustedServices || s.Network == "" || s.Network == AllNetworks:
	case form == FormManagedIdentity:
		reason = "a managed identity reaches a source whose network is restricted only if trusted services are let in there; turn them on and declare it"
	case other:
		reason = "a source in another tenant with selected networks must let trusted services in, and this registry's address ranges; turn them on and declare it"
	}
	if reason != "" {
		return fmt.Errorf("%w: %s", ErrUnsupported, reason)
	}
	return nil
}

// Sources are the declared source registries. Its fields must not change after
// first use; it is then safe for concurrent use.
type Sources struct {
	// TenantID is the tenant of this registry.
	TenantID string
	// Hosts are the sources by canonical login server. Rules for other hosts are not
	// checked.
	Hosts map[string]Source
}

// Check returns an error if a rule for host cannot work with this authenticator. It is
// meant to be the Check of package rule's Options. Authenticators that are none of ACR's
// forms are not checked.
func (s Sources) Check(host string, a auth.Authenticator) error {
	source, listed := s.Hosts[host]
	form, known := formOf(a)
	if !listed || !known {
		return nil
	}
	if err := source.Supports(s.TenantID, form); err != nil {
		return fmt.Errorf("%s with %s: %w", host, form, err)
	}
	return nil
}

// formOf returns the form of an authenticator. The content of a credential set does not
// matter: the matrix does not distinguish credentials, service principals and tokens.
func formOf(a auth.Authenticator) (Form, bool) {
	switch a.(type) {
	case *UserAssigned:
		return FormManagedIdentity, true
	case *ServicePrincipal:
		return FormServicePrincipal, true
	case *auth.CredentialSet:
		return FormCredentials, true
	}
	return "", false
}
