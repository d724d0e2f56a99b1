package azure_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pullthrough/pullthrough/auth/azure"
)

// fake is the part of Azure that these tests need, in memory: IMDS, one
// registry with an exchange, Entra for one application, Key Vault. It is
// modelled on the SDK's source and on public descriptions.
type fake struct {
	t *testing.T

	mu      sync.Mutex
	calls   []call
	fail    map[string]http.HandlerFunc // by kind of call, instead of an answer
	gone    map[string]bool             // identities that the machine does not have
	grants  map[string]bool             // identity + " " + repository
	secrets map[string]string           // of the vault
	issued  int
	valid   map[string]string // token -> what it says
	tenant  string
}

type call struct {
	kind, host, text string // text: everything that was sent
}

func newFake(t *testing.T) *fake {
	return &fake{t: t, fail: map[string]http.HandlerFunc{}, gone: map[string]bool{}, grants: map[string]bool{},
		secrets: map[string]string{}, valid: map[string]string{}, tenant: home}
}

// client reaches the fake under production names, without a socket.
func (f *fake) client() *http.Client { return &http.Client{Transport: f} }

func (f *fake) options() azure.Options {
	return azure.Options{TenantID: home, Client: f.client(), ManagedIdentity: f.client(),
		Retry: policy.RetryOptions{MaxRetries: -1}, Timeout: 10 * time.Second}
}

// RoundTrip answers in memory.
func (f *fake) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	var body []byte
	if req.Body != nil {
		_ = req.ParseForm()
		body = []byte(req.PostForm.Encode())
	}
	kind := f.kind(req)
	var head strings.Builder
	_ = req.Header.Write(&head)
	f.mu.Lock()
	f.calls = append(f.calls, call{kind, req.URL.Host, req.URL.String() + "\n" + head.String() + string(body)})
	h := f.fail[kind]
	f.mu.Unlock()
	if h == nil {
		h = map[string]http.HandlerFunc{"imds": f.imds, "exchange": f.exchange, "token": f.token, "v2": f.v2, "vault": f.vault, "entra": f.entra}[kind]
	}
	if h == nil {
		return nil, fmt.Errorf("no such host: %s", req.URL.Host)
	}
	h(w, req)
	resp := w.Result()
	resp.Request = req
	return resp, nil
}

func (f *fake) kind(req *http.Request) string {
	switch host := req.URL.Host; {
	case host == "169.254.169.254":
		return "imds"
	case host == "login.microsoftonline.com":
		return "entra"
	case strings.HasSuffix(host, ".vault.azure.net"):
		return "vault"
	case strings.HasPrefix(req.URL.Path, "/oauth2/"):
		return strings.TrimPrefix(req.URL.Path, "/oauth2/")
	case strings.HasSuffix(host, ".azurecr.io"):
		return "v2"
	}
	return "other"
}

func (f *fake) count(kind string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if c.kind == kind {
			n++
		}
	}
	return n
}

// set changes the fake under its lock.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// issue makes a JWT that this fake knows.
func (f *fake) issue(says string, claims map[string]any) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.issued++
	claims["jti"] = f.issued
	claims["iat"] = time.Now().Unix()
	data, _ := json.Marshal(claims)
	token := "e30." + base64.RawURLEncoding.EncodeToString(data) + ".secretsignature"
	f.valid[token] = says
	return token
}

func (f *fake) says(token string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.valid[token]
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// refuse answers as ACR does.
func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

func (f *fake) imds(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	id := q.Get("msi_res_id")
	if req.Header.Get("Metadata") != "true" || id != strings.ToLower(id) {
		f.t.Errorf("IMDS was asked with %v for %q", req.Header, id)
	}
	resource := strings.TrimSuffix(q.Get("resource"), "/")
	if resource != "https://containerregistry.azure.net" && resource != "https://vault.azure.net" {
		f.t.Errorf("the audience is %q", resource)
	}
	f.mu.Lock()
	gone, tenant := f.gone[id], f.tenant
	f.mu.Unlock()
	if gone {
		answer(w, 400, map[string]string{"error": "invalid_request", "error_description": "Identity not found"})
		return
	}
	token := f.issue("entra "+resource+" "+id, map[string]any{"aud": resource, "tid": tenant, "exp": time.Now().Add(24 * time.Hour).Unix()})
	answer(w, 200, map[string]string{"access_token": token, "expires_in": "86400", "expires_on": fmt.Sprint(time.Now().Add(24 * time.Hour).Unix()), "resource": resource, "token_type": "Bearer"})
}

func (f *fake) exchange(w http.ResponseWriter, req *http.Request) {
	form := req.PostForm
	id, ok := strings.CutPrefix(f.says(form.Get("access_token")), "entra https://containerregistry.azure.net ")
	want := url.Values{"grant_type": {"access_token"}, "service": {req.URL.Host}, "access_token": form["access_token"], "tenant": form["tenant"]}
	if req.Method != http.MethodPost || req.URL.Scheme != "https" || form.Encode() != want.Encode() || form.Get("tenant") != map[bool]string{true: other, false: home}[id == "app"] {
		f.t.Errorf("the exchange was asked %s %s", req.Method, req.URL)
	}
	if !ok {
		refuse(w, 401, "UNAUTHORIZED", "authentication required")
		return
	}
	answer(w, 200, map[string]string{"refresh_token": f.issue("refresh "+id, map[string]any{"aud": req.URL.Host, "exp": time.Now().Add(3 * time.Hour).Unix()})})
}

func (f *fake) token(w http.ResponseWriter, req *http.Request) {
	form := req.PostForm
	id, ok := strings.CutPrefix(f.says(form.Get("refresh_token")), "refresh ")
	if form.Get("grant_type") != "refresh_token" || form.Get("service") != req.URL.Host {
		f.t.Errorf("the token server was asked with grant %q, service %q", form.Get("grant_type"), form.Get("service"))
	}
	if !ok {
		refuse(w, 401, "UNAUTHORIZED", "authentication required")
		return
	}
	answer(w, 200, map[string]string{"access_token": f.issue("access "+id+" "+form.Get("scope"), map[string]any{})})
}

// v2 is a registry whose repositories have one manifest each.
func (f *fake) v2(w http.ResponseWriter, req *http.Request) {
	repo, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/manifests/")
	token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	says, ok := strings.CutPrefix(f.says(token), "access ")
	id, scope, _ := strings.Cut(says, " ")
	f.mu.Lock()
	granted := f.grants[id+" "+repo]
	f.mu.Unlock()
	if !ok || !granted || scope != "repository:"+repo+":pull" {
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="https://%s/oauth2/token",service="%s",scope="repository:%s:pull"`, req.URL.Host, req.URL.Host, repo))
		refuse(w, 401, "UNAUTHORIZED", "authentication required")
		return
	}
	w.Header().Set("Content-Type", manifestType)
	_, _ = w.Write([]byte(manifest))
}

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifest     = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}`
)

func (f *fake) vault(w http.ResponseWriter, req *http.Request) {
	token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !strings.HasPrefix(f.says(token), "entra https://vault.azure.net") {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/`+home+`", resource="https://vault.azure.net"`)
		answer(w, 401, map[string]any{"error": map[string]string{"code": "Unauthorized"}})
		return
	}
	name := strings.Split(strings.TrimPrefix(req.URL.Path, "/secrets/"), "/")[0]
	f.mu.Lock()
	value, ok := f.secrets[name]
	f.mu.Unlock()
	if !ok {
		answer(w, 404, map[string]any{"error": map[string]string{"code": "SecretNotFound"}})
		return
	}
	answer(w, 200, map[string]any{"value": value, "id": "https://" + req.URL.Host + "/secrets/" + name + "/v-" + fmt.Sprint(len(value))})
}

// entra knows one application, "app", whose secret is in secrets.
func (f *fake) entra(w http.ResponseWriter, req *http.Request) {
	const base = "https://login.microsoftonline.com/"
	tenant, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	switch {
	case strings.HasSuffix(req.URL.Path, "/discovery/instance"):
		answer(w, 200, map[string]any{"tenant_discovery_endpoint": base + other + "/v2.0/.well-known/openid-configuration",
			"metadata": []map[string]any{{"preferred_network": "login.microsoftonline.com", "preferred_cache": "login.microsoftonline.com", "aliases": []string{"login.microsoftonline.com"}}}})
	case strings.HasSuffix(req.URL.Path, "openid-configuration"):
		answer(w, 200, map[string]string{"token_endpoint": base + tenant + "/oauth2/v2.0/token", "authorization_endpoint": base + tenant + "/authorize", "issuer": base + tenant + "/v2.0"})
	case f.secret("app") != req.PostForm.Get("client_secret"):
		answer(w, 401, map[string]any{"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret " + req.PostForm.Get("client_secret")})
	default:
		if scope := req.PostForm.Get("scope"); !strings.Contains(scope, "https://containerregistry.azure.net/.default") {
			f.t.Errorf("the scope is %q", scope)
		}
		token := f.issue("entra https://containerregistry.azure.net app", map[string]any{"tid": tenant, "exp": time.Now().Add(time.Hour).Unix()})
		answer(w, 200, map[string]any{"access_token": token, "expires_in": 3600, "ext_expires_in": 3600, "token_type": "Bearer"})
	}
}

func (f *fake) secret(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.secrets[name]
}

// status is an answer that is none.
func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		refuse(w, code, "DENIED", "client with IP '203.0.113.7' is not allowed access. Refer https://aka.ms/acr/firewall to grant access.")
	}
}
