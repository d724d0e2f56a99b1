package azuretest

import (
	"crypto/rand"
	"net/http"
	"strings"
)

// ServicePrincipal is an application with a client secret. Its exported fields do
// not change.
type ServicePrincipal struct {
	TenantID, ClientID string
	// PrincipalID is the id to which roles are granted.
	PrincipalID string

	azure  *Azure
	secret string
	epoch  int
}

// NewServicePrincipal makes an application in a tenant, or in the home tenant if tenantID
// is empty.
func (a *Azure) NewServicePrincipal(tenantID string) *ServicePrincipal {
	if tenantID == "" {
		tenantID = a.tenant
	}
	p := &ServicePrincipal{TenantID: tenantID, ClientID: newGUID(), PrincipalID: newGUID(), azure: a}
	a.mu.Lock()
	a.principals[p.ClientID] = p
	a.mu.Unlock()
	p.Rotate()
	return p
}

// Secret returns the client secret that is valid now.
func (p *ServicePrincipal) Secret() string {
	p.azure.mu.Lock()
	defer p.azure.mu.Unlock()
	return p.secret
}

// Rotate replaces the secret. The former one is refused from now on.
func (p *ServicePrincipal) Rotate() {
	secret := rand.Text()
	p.azure.secret("client secret", secret, sentTo("", Entra, Token, V2))
	p.azure.mu.Lock()
	defer p.azure.mu.Unlock()
	p.secret = secret
}

// byClient finds an application by its client id.
func (a *Azure) byClient(id string) (p ServicePrincipal, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if found := a.principals[id]; found != nil {
		return *found, true
	}
	return ServicePrincipal{}, false
}

// tenantExists reports whether a tenant is the home tenant or has an application.
func (a *Azure) tenantExists(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id == a.tenant {
		return true
	}
	for _, p := range a.principals {
		if p.TenantID == id {
			return true
		}
	}
	return false
}

// entra serves the authority: discovery, and tokens for client credentials.
func (a *Azure) entra(w http.ResponseWriter, r *http.Request, _ Endpoint) {
	base := "https://" + r.Host + "/"
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case rest == "discovery/instance":
		answer(w, http.StatusOK, map[string]any{
			"tenant_discovery_endpoint": base + a.tenant + "/v2.0/.well-known/openid-configuration",
			"metadata":                  []map[string]any{{"preferred_network": r.Host, "preferred_cache": r.Host, "aliases": []string{r.Host}}},
		})
	case !a.tenantExists(tenant):
		answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_tenant", "error_description": "AADSTS90002: Tenant '" + tenant + "' not found."})
	case rest == "v2.0/.well-known/openid-configuration":
		answer(w, http.StatusOK, map[string]string{"token_endpoint": base + tenant + "/oauth2/v2.0/token",
			"authorization_endpoint": base + tenant + "/oauth2/v2.0/authorize", "issuer": base + tenant + "/v2.0"})
	case rest == "oauth2/v2.0/token" && r.Method == http.MethodPost:
		a.clientCredentials(w, r, tenant)
	default:
		a.complain("Entra was asked %s %s", r.Method, r.URL.Path)
		http.NotFound(w, r)
	}
}

// clientCredentials serves the client-credentials grant.
func (a *Azure) clientCredentials(w http.ResponseWriter, r *http.Request, tenant string) {
	form := r.PostForm
	var resource string
	for _, scope := range strings.Fields(form.Get("scope")) {
		if text, known := resourceOf(scope); known && strings.HasSuffix(scope, "/.default") {
			resource = text
		}
	}
	if form.Get("grant_type") != "client_credentials" || resource == "" {
		a.complain("Entra was asked for the grant %q and the scope %q", form.Get("grant_type"), form.Get("scope"))
	}
	p, ok := a.byClient(form.Get("client_id"))
	switch {
	case !ok || p.TenantID != tenant:
		answer(w, http.StatusBadRequest, map[string]string{"error": "unauthorized_client", "error_description": "AADSTS700016: Application with identifier '" + form.Get("client_id") + "' was not found in the directory."})
	case p.secret != form.Get("client_secret"):
		answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."})
	default:
		token, life := a.entraToken(tenant, p.PrincipalID, resource, p.epoch)
		answer(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int(life.Seconds()), "ext_expires_in": int(life.Seconds())})
	}
}
