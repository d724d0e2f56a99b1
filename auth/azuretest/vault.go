package azuretest

import (
	"crypto/rand"
	"net/http"
	"strings"
)

// Vault is a Key Vault. Its methods are safe for concurrent use.
type Vault struct {
	azure *Azure
	host  string

	// under azure.mu
	secrets  map[string][]version
	readers  map[string]bool
	disabled map[string]bool
}

type version struct{ name, value string }

// NewVault makes name.vault.azure.net.
func (a *Azure) NewVault(name string) *Vault {
	v := &Vault{azure: a, host: name + ".vault.azure.net", secrets: map[string][]version{}, readers: map[string]bool{}, disabled: map[string]bool{}}
	a.add(v.host, host{func(*http.Request) Endpoint { return KeyVault }, v.serve})
	return v
}

// Grant allows a principal to read secrets.
func (v *Vault) Grant(principalID string) {
	v.azure.mu.Lock()
	defer v.azure.mu.Unlock()
	v.readers[principalID] = true
}

// Revoke undoes Grant.
func (v *Vault) Revoke(principalID string) {
	v.azure.mu.Lock()
	defer v.azure.mu.Unlock()
	delete(v.readers, principalID)
}

// Set adds a version of a secret, which becomes the latest one, and returns its name.
func (v *Vault) Set(secret, value string) string {
	name := strings.ToLower(rand.Text())
	// A user name may lie in a vault too, and is sent to other endpoints.
	v.azure.secret("vault secret", value, sentTo("", KeyVault, Token, V2, Entra, Exchange, Data))
	v.azure.mu.Lock()
	defer v.azure.mu.Unlock()
	v.secrets[secret] = append(v.secrets[secret], version{name, value})
	delete(v.disabled, secret)
	return name
}

// SecretID returns the identifier of a secret, without a version.
func (v *Vault) SecretID(secret string) string { return "https://" + v.host + "/secrets/" + secret }

// Disable disables the latest version: requests without a version are refused, and those
// for a former version by its name still work.
func (v *Vault) Disable(secret string) {
	v.azure.mu.Lock()
	defer v.azure.mu.Unlock()
	v.disabled[secret] = true
}

// Delete deletes a secret with all versions.
func (v *Vault) Delete(secret string) {
	v.azure.mu.Lock()
	defer v.azure.mu.Unlock()
	delete(v.secrets, secret)
}

func (v *Vault) serve(w http.ResponseWriter, r *http.Request, _ Endpoint) {
	path, ok := strings.CutPrefix(r.URL.Path, "/secrets/")
	if !ok || r.Method != http.MethodGet || r.URL.Query().Get("api-version") == "" {
		v.azure.complain("%s was asked %s %s", v.host, r.Method, r.URL.Path)
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	c, ok := v.azure.read(token, "entra")
	if !ok || !v.azure.unrevoked(c) || c.Audience != vaultResource {
		if ok && c.Audience != vaultResource {
			v.azure.complain("%s got a token for the audience %s", v.host, c.Audience)
		}
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://`+entra+`/`+v.azure.tenant+`", resource="`+vaultResource+`"`)
		vaultError(w, http.StatusUnauthorized, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
		return
	}
	name, pinned, _ := strings.Cut(strings.TrimSuffix(path, "/"), "/")
	v.answer(w, c.Object, name, pinned)
}

// answer serves a secret to a principal.
func (v *Vault) answer(w http.ResponseWriter, principal, name, pinned string) {
	v.azure.mu.Lock()
	versions, reader, disabled := v.secrets[name], v.readers[principal], v.disabled[name]
	v.azure.mu.Unlock()
	var found *version
	for i := range versions {
		if pinned == "" || versions[i].name == pinned {
			found = &versions[i]
		}
	}
	switch {
	case !reader:
		vaultError(w, http.StatusForbidden, "Forbidden", "Caller is not authorized to perform action on resource.")
	case found == nil:
		vaultError(w, http.StatusNotFound, "SecretNotFound", "A secret with (name/id) "+name+" was not found in this key vault.")
	case disabled && found == &versions[len(versions)-1]:
		vaultError(w, http.StatusForbidden, "Forbidden", "Operation get is not allowed on a disabled secret.")
	default:
		answer(w, http.StatusOK, map[string]any{"value": found.value, "id": v.SecretID(name) + "/" + found.name, "attributes": map[string]bool{"enabled": true}})
	}
}

func vaultError(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"error": map[string]string{"code": code, "message": message}})
}
