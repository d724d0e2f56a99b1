package azuretest

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Endpoint is a kind of server.
type Endpoint string

// The endpoints of an Azure.
const (
	IMDS       Endpoint = "imds"       // managed identities of a virtual machine
	AppService Endpoint = "appservice" // managed identities of an App Service
	Entra      Endpoint = "entra"      // tokens of service principals, and discovery
	Exchange   Endpoint = "exchange"   // POST /oauth2/exchange of a registry
	Token      Endpoint = "token"      // /oauth2/token of a registry
	V2         Endpoint = "v2"         // /v2/ of a registry
	Data       Endpoint = "data"       // the data endpoint of a registry
	KeyVault   Endpoint = "keyvault"   // a vault
	Other      Endpoint = "other"      // a host of the test, see [Azure.Handle]
)

// Call is a request that a fake received.
type Call struct {
	Endpoint Endpoint
	Method   string
	Host     string
	URL      *url.URL
	Header   http.Header
	Form     url.Values // the body, if it is a form
	Status   int        // of the response; 0 if there is none yet

	body string // if it is no form
}

// Text returns all that was sent, with Basic credentials and the query decoded.
func (c Call) Text() string {
	var text strings.Builder
	text.WriteString(c.Method + " " + c.Host + " " + c.URL.String() + "\n")
	if query, err := url.QueryUnescape(c.URL.RawQuery); err == nil {
		text.WriteString(query + "\n")
	}
	for _, k := range slices.Sorted(maps.Keys(c.Header)) {
		for _, v := range c.Header[k] {
			text.WriteString(k + ": " + v + "\n")
			if encoded, ok := strings.CutPrefix(v, "Basic "); ok {
				decoded, _ := base64.StdEncoding.DecodeString(encoded)
				text.Write(decoded)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(c.Form)) {
		text.WriteString(k + "=" + strings.Join(c.Form[k], ",") + "\n")
	}
	text.WriteString(c.body)
	return text.String()
}

// Calls returns the calls since the last Reset, in order.
func (a *Azure) Calls() []Call { return a.calls.All() }

// Count counts the calls of an endpoint since the last Reset.
func (a *Azure) Count(e Endpoint) (n int) {
	return a.calls.Count(func(c Call) bool { return c.Endpoint == e })
}

// WantCalls reports whether the calls since the last Reset are these, in any order. If
// not, it complains with the differences. Each call is a method, a host and a path, such
// as "GET devregistry.azurecr.io/v2/app/manifests/v1".
func (a *Azure) WantCalls(want ...string) bool {
	if t := a.complaints.T; t != nil {
		t.Helper()
	}
	return a.complaints.Want("calls", a.calls.Lines(func(c Call) string { return c.Method + " " + c.Host + c.URL.Path }), want)
}

// Reset forgets the calls.
func (a *Azure) Reset() { a.calls.Reset() }

// Secret is a text that may be sent only to the endpoints that it is for.
type Secret struct {
	// What is the kind of secret: "entra token", "refresh token", "access token",
	// "link", "identity header", "client secret", "password" or "vault secret".
	What string
	Text string

	belongs func(Call) bool
}

// Secrets returns all secrets that were made, for tests that look for them in logs, errors
// and responses. Those that were replaced or revoked, or have expired, are among them.
func (a *Azure) Secrets() []Secret {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.secrets)
}

// secret notes a secret and the calls in which it may be sent.
func (a *Azure) secret(what, text string, belongs func(Call) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secrets = append(a.secrets, Secret{what, text, belongs})
}

// sentTo matches calls of these endpoints at a host, or at any host if it is empty.
func sentTo(host string, endpoints ...Endpoint) func(Call) bool {
	return func(c Call) bool {
		return slices.Contains(endpoints, c.Endpoint) && (host == "" || host == c.Host)
	}
}

// inspect complains of secrets in a call that must not be sent there.
func (a *Azure) inspect(c Call) {
	text := c.Text()
	for _, s := range a.Secrets() {
		if s.Text != "" && !s.belongs(c) && strings.Contains(text, s.Text) {
			a.complain("a %s was sent to %s %s (%s)", s.What, c.Host, c.URL.Path, c.Endpoint)
		}
	}
}
