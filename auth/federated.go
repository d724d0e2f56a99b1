package auth

import (
	"context"
	"errors"
	"fmt"
)

// ErrFederatedIdentity reports that a rule uses a federated identity, which is
// accepted in the model and refused at use.
var ErrFederatedIdentity = errors.New("auth: federated identity is not supported yet")

// FederatedIdentity is the shape of ACR's announced cross-tenant form. It can
// be stored, listed and written like every other authenticator, and refuses to
// be used.
type FederatedIdentity struct {
	TenantID string // the tenant of the source registry
	ClientID string // the application in that tenant
}

// Credential always fails with a [*DeniedError] that wraps
// [ErrFederatedIdentity].
func (f FederatedIdentity) Credential(_ context.Context, r Request) (Credential, error) {
	return Credential{}, &DeniedError{
		Reason: fmt.Sprintf("rule %q uses a federated identity (tenant %q, client %q), which is not supported yet", r.Rule, f.TenantID, f.ClientID),
		Err:    ErrFederatedIdentity,
	}
}
