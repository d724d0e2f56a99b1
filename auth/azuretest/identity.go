package azuretest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Identity is a managed identity. Its exported fields do not change.
type Identity struct {
	Name string
	// ResourceID is the ARM id. It has a random part, since the SDK caches tokens of
	// managed identities by their ids for the whole process, so that no two tests may
	// share one. It is empty for the system-assigned identity.
	ResourceID string
	ClientID   string
	// PrincipalID is the id to which roles are granted.
	PrincipalID string
	TenantID    string

	azure    *Azure
	detached bool
	epoch    int
}

// NewIdentity makes a user-assigned identity of the home tenant and attaches it to the
// machine.
func (a *Azure) NewIdentity(name string) *Identity { return a.NewIdentityIn(a.tenant, name) }

// NewIdentityIn makes a user-assigned identity of a tenant and attaches it to the machine.
func (a *Azure) NewIdentityIn(tenantID, name string) *Identity {
	id := fmt.Sprintf("/subscriptions/%s/resourceGroups/azuretest-%s/providers/Microsoft.ManagedIdentity/userAssignedIdentities/%s",
		newGUID(), strings.ToLower(rand.Text()[:10]), name)
	return a.newIdentity(&Identity{Name: name, ResourceID: id, TenantID: tenantID})
}

// SystemAssigned returns the system-assigned identity of the machine. The first call makes
// it; before that, the machine has none.
//
// The SDK caches its token for the whole process, so a second test that uses it finds the
// token of the first.
func (a *Azure) SystemAssigned() *Identity {
	a.mu.Lock()
	i := a.identities[""]
	a.mu.Unlock()
	if i != nil {
		return i
	}
	return a.newIdentity(&Identity{Name: "system-assigned", TenantID: a.tenant})
}

func (a *Azure) newIdentity(i *Identity) *Identity {
	i.azure, i.ClientID, i.PrincipalID = a, newGUID(), newGUID()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identities[strings.ToLower(i.ResourceID)] = i
	return i
}

// Detach removes the identity from the machine: the managed-identity endpoints respond that
// it does not exist. Tokens that were issued stay valid.
func (i *Identity) Detach() { i.set(func() { i.detached = true }) }

// Attach undoes Detach.
func (i *Identity) Attach() { i.set(func() { i.detached = false }) }

// RevokeTokens makes registries and vaults refuse the tokens that were issued so far.
func (i *Identity) RevokeTokens() { i.set(func() { i.epoch++ }) }

func (i *Identity) set(change func()) {
	i.azure.mu.Lock()
	defer i.azure.mu.Unlock()
	change()
}

// imds serves the endpoint of virtual machines.
func (a *Azure) imds(w http.ResponseWriter, r *http.Request, _ Endpoint) {
	q := r.URL.Query()
	if r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "" || r.TLS != nil {
		a.complain("IMDS wants plain http, the header Metadata: true and no proxy; it was asked with %v", r.Header)
	}
	if r.URL.Path != "/metadata/identity/oauth2/token" || q.Get("api-version") == "" {
		a.complain("IMDS was asked %s %s", r.Method, r.URL)
	}
	a.identity(w, q, "msi_res_id", func() {
		answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_request", "error_description": "Identity not found"})
	})
}

// appService serves the endpoint of App Service, Functions and Container Apps.
func (a *Azure) appService(w http.ResponseWriter, r *http.Request, _ Endpoint) {
	q := r.URL.Query()
	a.net.mu.Lock()
	header := a.net.identityHeader
	a.net.mu.Unlock()
	if r.Header.Get("X-IDENTITY-HEADER") != header || q.Get("api-version") != "2019-08-01" || r.URL.Path != "/msi/token" {
		a.complain("the App Service endpoint was asked %s %s without its header or version", r.Method, r.URL)
		answer(w, http.StatusUnauthorized, map[string]any{"statusCode": 401, "message": "unauthorized"})
		return
	}
	a.identity(w, q, "mi_res_id", func() {
		answer(w, http.StatusBadRequest, map[string]any{"statusCode": 400, "message": "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."})
	})
}

// identity serves a managed-identity request. parameter names the query parameter with the
// resource id, and missing responds that there is no such identity.
func (a *Azure) identity(w http.ResponseWriter, q url.Values, parameter string, missing func()) {
	resource, known := resourceOf(q.Get("resource"))
	if !known {
		a.complain("a managed identity was asked for the audience %q", q.Get("resource"))
		missing()
		return
	}
	a.mu.Lock()
	i := a.identities[strings.ToLower(q.Get(parameter))]
	absent := i == nil || i.detached
	epoch := 0
	if i != nil {
		epoch = i.epoch
	}
	a.mu.Unlock()
	if absent {
		missing()
		return
	}
	token, life := a.entraToken(i.TenantID, i.PrincipalID, resource, epoch)
	answer(w, http.StatusOK, map[string]string{
		"access_token": token, "token_type": "Bearer", "resource": resource, "client_id": i.ClientID,
		"expires_in": fmt.Sprint(int(life.Seconds())), "expires_on": fmt.Sprint(a.now().Add(life).Unix()),
	})
}
