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
// Only those may be attached to rules. It is safe for concurrent use.
type Identities struct {
	settings *settings

	mu          sync.RWMutex
	assigned    map[string]bool
	credentials map[string]azcore.TokenCredential // by id, "" the machine's own
}

// NewIdentities assigns the identities with these resource ids. It asks nobody.
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

// Assign assigns the identity with that resource id. One that is assigned
// already is no error.
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

// Unassign takes the identity with that resource id away. Rules that have it
// are refused with [ErrNotAssigned] from now on, downloads that run finish. One
// that is not assigned is [ErrNotAssigned].
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

// List returns the canonical resource ids of what is assigned, sorted: ARM ids
// do not mind the case, so they are in lower case.
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

// credential returns the SDK's credential of an identity, one for all who use it:
// however many rules have the same identity, IMDS is asked once when they begin
// together.
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

// UserAssigned returns the authenticator of an assigned identity, for one rule.
// An id that is not assigned is an [*auth.DeniedError] that wraps
// [ErrNotAssigned]; whether Azure knows the identity turns out at first use.
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
// It proves itself to Azure Container Registries only: any other host is
// [auth.ErrHost] before a token is asked for. What it earned for one rule is not
// used for another that has the same identity; only the Entra token behind it
// is kept by the SDK for the whole process. It is safe for concurrent use.
type UserAssigned struct {
	principal
	identities *Identities
}

// ResourceID is the canonical ARM id of the identity.
func (u *UserAssigned) ResourceID() string { return u.id }

// Check reports whether the identity is assigned and may be used for host.
func (u *UserAssigned) Check(host string) error {
	if !u.identities.has(u.id) {
		return notAssigned(u.id)
	}
	return u.principal.Check(host)
}

// Credential returns a refresh token of the registry r.Host. Its errors are
// [auth.ErrHost], an [*auth.DeniedError] (not assigned, another tenant, refused
// by the registry), an [*auth.UnavailableError], or that of ctx.
func (u *UserAssigned) Credential(ctx context.Context, r auth.Request) (auth.Credential, error) {
	if err := u.Check(r.Host); err != nil {
		return auth.Credential{}, err
	}
	return u.get(ctx, r)
}
