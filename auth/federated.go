package auth

import (
	"context"
	"errors"
	"fmt"
)

// ErrFederatedIdentity reports that a rule uses a federated identity, which a rule may
// have, but which gives no credential.
var ErrFederatedIdentity = errors.New("auth: federated identity is not supported yet")

// FederatedIdentity is ACR's cross-tenant authentication, which is announced. A rule
// with it can be stored, listed and written like any other, but not used.
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
