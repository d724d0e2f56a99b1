package azure

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/arm"
)

// Identities are the user-assigned managed identities that are assigned to this
// registry, as `az acr identity assign` does for an Azure Container Registry.
// Only these may be attached to rules. It is safe for concurrent use.
type Identities struct {
	settings *settings

	mu          sync.RWMutex
	assigned    map[string]bool
	credentials map[string]azcore.TokenCredential // by id; "" stands for the system-assigned one
}

// NewIdentities assigns the identities with these resource ids. It sends no requests.
func NewIdentities(o Options, ids ...string) (*Identities, error) {
	s, err := o.resolve()
	if err != nil {
		return nil, err
	}
	i := &Identities{settings: s, assigned: map[string]bool{}, credentials: map[string]azcore.TokenCredential{}}
	for _, id := range ids {
		if err := i.Assign(id); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// Assign assigns the identity with that resource id. It is no error if the identity is
// assigned already.
func (i *Identities) Assign(id string) error {
	id, err := arm.Identity(id)
	if err != nil {
		return fmt.Errorf("azure: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.assigned[id] = true
	return nil
}

// Unassign removes the identity with that resource id. From then on, rules with it fail
// with [ErrNotAssigned]; downloads that are under way finish. If the identity is not
// assigned, the error is [ErrNotAssigned].
func (i *Identities) Unassign(id string) error {
	id, err := arm.Identity(id)
	if err != nil {
		return fmt.Errorf("azure: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.assigned[id] {
		return notAssigned(id)
	}
	delete(i.assigned, id)
	delete(i.credentials, id)
	return nil
}

// List returns the canonical resource ids of the assigned identities, sorted. They are
// in lower case, since ARM ignores the case of ids.
func (i *Identities) List() []string {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return slices.Sorted(maps.Keys(i.assigned))
}

func (i *Identities) has(id string) bool {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.assigned[id]
}

// credential returns the SDK's credential of an identity. All rules with the identity
// share it, so that IMDS receives one request when they begin together.
func (i *Identities) credential(id string) (azcore.TokenCredential, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if cred := i.credentials[id]; cred != nil {
		return cred, nil
	}
	cred, err := i.settings.managedIdentity(id)
	if err != nil {
		return nil, err
	}
	i.credentials[id] = cred
	return cred, nil
}

// UserAssigned returns the authenticator of an assigned identity, for one rule. If the id
// is not assigned, the error is an [*auth.DeniedError] that wraps [ErrNotAssigned].
// Whether Azure knows the identity is found out at first use.
func (i *Identities) UserAssigned(id string) (*UserAssigned, error) {
	id, err := arm.Identity(id)
	if err != nil {
		return nil, fmt.Errorf("azure: %w", err)
	}
	if !i.has(id) {
		return nil, notAssigned(id)
	}
	cred, err := i.credential(id)
	if err != nil {
		return nil, err
	}
	return &UserAssigned{
		principal:  principal{settings: i.settings, credential: cred, who: "identity '" + id + "'", id: id, sameTenant: true},
		identities: i,
	}, nil
}

// UserAssigned is the [auth.Authenticator] of a user-assigned managed identity.
// It authenticates to Azure Container Registries only; for any other host it returns
// [auth.ErrHost] before it requests a token. Refresh tokens of one rule are not used for
// another rule with the same identity; only the Entra token behind them is cached by the
// SDK for the whole process. It is safe for concurrent use.
type UserAssigned struct {
	principal
	identities *Identities
}

// ResourceID returns the canonical ARM id of the identity.
func (u *UserAssigned) ResourceID() string { return u.id }

// Check returns an error unless the identity is assigned and may be used for host.
func (u *UserAssigned) Check(host string) error {
	if !u.identities.has(u.id) {
		return notAssigned(u.id)
	}
	return u.principal.Check(host)
}

// Credential returns a refresh token of the registry r.Host. Its errors are
// [auth.ErrHost], an [*auth.DeniedError] if the identity is not assigned, belongs to
// another tenant or is refused by the registry, an [*auth.UnavailableError], or that of
// ctx.
func (u *UserAssigned) Credential(ctx context.Context, r auth.Request) (auth.Credential, error) {
	if err := u.Check(r.Host); err != nil {
		return auth.Credential{}, err
	}
	return u.get(ctx, r)
}
