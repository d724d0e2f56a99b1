package azuretest

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Endpoint is one kind of thing that can be asked.
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

// Call is one request that was answered.
type Call struct {
	Endpoint Endpoint
	Method   string
	Host     string
	URL      *url.URL
	Header   http.Header
	Form     url.Values // of the body, if it was a form
	Status   int        // 0: no answer, or not yet

	body string // that was no form
}

// Text is all that was sent, Basic credentials and the query decoded.
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

// Calls returns what was asked, in order, since the last Reset.
func (a *Azure) Calls() []Call { return a.calls.All() }

// Count counts the calls of an endpoint since the last Reset.
func (a *Azure) Count(e Endpoint) (n int) {
	return a.calls.Count(func(c Call) bool { return c.Endpoint == e })
}

// WantCalls complains, with what differs, unless the calls since the last Reset
// are these, in any order, and reports whether they are. Each is a method, a host
// and a path, such as "GET devregistry.azurecr.io/v2/app/manifests/v1".
func (a *Azure) WantCalls(want ...string) bool {
	if t := a.complaints.T; t != nil {
		t.Helper()
	}
	return a.complaints.Want("calls", a.calls.Lines(func(c Call) string { return c.Method + " " + c.Host + c.URL.Path }), want)
}

// Reset forgets the calls.
func (a *Azure) Reset() { a.calls.Reset() }

// Secret is a text that must not be seen where it does not belong.
type Secret struct {
	// What says what it is: "entra token", "refresh token", "access token",
	// "link", "identity header", "client secret", "password" or "vault secret".
	What string
	Text string

	belongs func(Call) bool
}

// Secrets are all secrets in play, for tests that look for them in logs, errors
// and answers. Those that were replaced, revoked or that expired are in it too.
func (a *Azure) Secrets() []Secret {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.secrets)
}

// secret notes a secret and where it may be shown.
func (a *Azure) secret(what, text string, belongs func(Call) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secrets = append(a.secrets, Secret{what, text, belongs})
}

// at is one kind of endpoint; host "": any host.
func at(host string, endpoints ...Endpoint) func(Call) bool {
	return func(c Call) bool {
		return slices.Contains(endpoints, c.Endpoint) && (host == "" || host == c.Host)
	}
}

// inspect looks for secrets that were sent to somebody else than whom they are
// for.
func (a *Azure) inspect(c Call) {
	text := c.Text()
	for _, s := range a.Secrets() {
		if s.Text != "" && !s.belongs(c) && strings.Contains(text, s.Text) {
			a.complain("a %s was sent to %s %s (%s)", s.What, c.Host, c.URL.Path, c.Endpoint)
		}
	}
}
