package azuretest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// claims are the claims of a token, with the names of JWT and of Entra.
type claims struct {
	Use      string   `json:"token_use"` // "entra", "refresh" or "access"
	Audience string   `json:"aud"`
	Tenant   string   `json:"tid,omitempty"`
	Object   string   `json:"oid"` // the principal
	Scopes   []string `json:"scopes,omitempty"`
	Epoch    int      `json:"epoch"` // of the principal or registry that can revoke it
	ID       int      `json:"jti"`
	Issued   int64    `json:"iat"`
	Begins   int64    `json:"nbf"`
	Expires  int64    `json:"exp"`
}

// issue signs a token (HS256) that is valid for life.
func (a *Azure) issue(c claims, life time.Duration) string {
	now := a.now()
	a.mu.Lock()
	a.issued++
	c.ID = a.issued
	a.mu.Unlock()
	c.Issued, c.Begins, c.Expires = now.Unix(), now.Unix(), now.Add(life).Unix()
	body, _ := json.Marshal(c) // a plain struct
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(body)
	return text + "." + encode(a.sign(text))
}

// read verifies a token that issue signed: its signature, its use and its times.
func (a *Azure) read(token, use string) (claims, bool) {
	var c claims
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return c, false
	}
	signature, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil || !hmac.Equal(signature, a.sign(token[:i])) {
		return c, false
	}
	_, body, _ := strings.Cut(token[:i], ".")
	data, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || json.Unmarshal(data, &c) != nil {
		return c, false
	}
	now := a.now().Unix()
	return c, c.Use == use && c.Begins <= now && now < c.Expires
}

func (a *Azure) sign(text string) []byte {
	mac := hmac.New(sha256.New, a.key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Lifetimes are the lifetimes of tokens. A zero field means its default.
type Lifetimes struct {
	Entra   time.Duration // 24 hours by default
	Refresh time.Duration // 3 hours by default
	Access  time.Duration // 75 minutes by default
}

// SetLifetimes sets the lifetimes of tokens that are issued from now on.
func (a *Azure) SetLifetimes(l Lifetimes) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lifetimes = l
}

// lifetime returns the lifetime of tokens of a use.
func (a *Azure) lifetime(use string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lifetimes
	switch use {
	case "entra":
		return orDefault(l.Entra, 24*time.Hour)
	case "refresh":
		return orDefault(l.Refresh, 3*time.Hour)
	}
	return orDefault(l.Access, 75*time.Minute)
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

const (
	registryResource = "https://containerregistry.azure.net"
	vaultResource    = "https://vault.azure.net"
)

// entraToken issues a token for one of the two audiences, registries and vaults.
func (a *Azure) entraToken(tenant, principal, resource string, epoch int) (string, time.Duration) {
	life := a.lifetime("entra")
	token := a.issue(claims{Use: "entra", Audience: resource, Tenant: tenant, Object: principal, Epoch: epoch}, life)
	belongs := sentTo("", Exchange)
	if resource == vaultResource {
		belongs = sentTo("", KeyVault)
	}
	a.secret("entra token", token, belongs)
	return token, life
}

// unrevoked reports whether a token's principal exists and has not revoked its tokens.
func (a *Azure) unrevoked(c claims) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range a.identities {
		if i.PrincipalID == c.Object {
			return i.epoch == c.Epoch
		}
	}
	for _, p := range a.principals {
		if p.PrincipalID == c.Object {
			return p.epoch == c.Epoch
		}
	}
	return false
}

// resourceOf returns the audience of a scope or resource, and whether it is known.
func resourceOf(text string) (string, bool) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "/.default"), "/")
	return text, slices.Contains([]string{registryResource, vaultResource}, text)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// fail responds with an error of a registry.
func fail(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}
