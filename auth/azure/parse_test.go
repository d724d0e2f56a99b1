package azure

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSecretID(t *testing.T) {
	for id, want := range map[string][3]string{
		"https://v-1.vault.azure.net/secrets/user":         {"https://v-1.vault.azure.net", "user", ""},
		"https://V.vault.azure.net/secrets/User-2/0123abc": {"https://V.vault.azure.net", "User-2", "0123abc"},
	} {
		vault, name, version, err := parseSecretID(id, ".vault.azure.net")
		if err != nil || [3]string{vault, name, version} != want {
			t.Errorf("%q: %q %q %q, %v", id, vault, name, version, err)
		}
	}
	for _, bad := range []string{
		"", "user", "http://v.vault.azure.net/secrets/user", "https://v.vault.azure.net", "https://v.vault.azure.net/", "https://v.vault.azure.net/secrets", "https://v.vault.azure.net/secrets/",
		"https://v.vault.azure.net/keys/user", "https://v.vault.azure.net/secrets/user/1/2", "https://v.vault.azure.net/secrets/user/", "https://v.vault.azure.net/secrets/a_b",
		"https://v.vault.azure.net/secrets/user?x=1", "https://v.vault.azure.net/secrets/user?", "https://v.vault.azure.net/secrets/user#x", "https://u:p@v.vault.azure.net/secrets/user",
		"https://v.vault.azure.net:8443/secrets/user", "https://vault.azure.net/secrets/user", "https://.vault.azure.net/secrets/user", "https://a.b.vault.azure.net/secrets/user",
		"https://v.vault.azure.net.evil.example/secrets/user", "https://v.vault.azure.cn/secrets/user", "https://v.vault.azure.net/secrets/%75ser", "https://v.vault.azure.net//secrets/user", "://",
		"https://v.vault.azure.net/secrets/" + strings.Repeat("a", 4096),
	} {
		if _, _, _, err := parseSecretID(bad, ".vault.azure.net"); err == nil || len(err.Error()) > 600 {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzSecretID(f *testing.F) {
	f.Add("https://v.vault.azure.net/secrets/user/1")
	f.Add("https://v.vault.azure.net/%2e%2e/secrets")
	f.Add("https://v.vault.azure.net/secrets/user#")
	f.Add("HTTPS://v.vault.azure.net/secrets/user")
	f.Fuzz(func(t *testing.T, id string) {
		vault, name, version, err := parseSecretID(id, ".vault.azure.net")
		if err != nil {
			return
		}
		again := vault + "/secrets/" + name
		if version != "" {
			again += "/" + version
		}
		if again != id || !strings.HasSuffix(vault, ".vault.azure.net") {
			t.Errorf("%q became %q", id, again)
		}
	})
}

func jwt(payload string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

func TestLifetime(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for payload, want := range map[string]time.Duration{
		`{"iat":1800000000,"exp":1800010800}`:     3 * time.Hour,
		`{"iat":1700000000,"exp":1700010800}`:     3 * time.Hour, // the clock of the issuer is behind
		`{"iat":1900000000.5,"exp":1900010800}`:   3 * time.Hour, // ahead
		`{"exp":1800003600}`:                      time.Hour,
		`{"exp":1700000000}`:                      shortestLifetime,
		`{"iat":1800000000,"exp":1799999999}`:     shortestLifetime,
		`{"iat":1,"exp":99999999999}`:             longestLifetime,
		`{"exp":1e300}`:                           unknownLifetime,
		`{"exp":-5}`:                              unknownLifetime,
		`{"exp":"soon"}`:                          unknownLifetime,
		`{}`:                                      unknownLifetime,
		`[1]`:                                     unknownLifetime,
		`{"tid":"t","iat":1800000000,"exp":null}`: unknownLifetime,
	} {
		if got := readClaims(jwt(payload)).lifetime(now); got != want {
			t.Errorf("%s: %v, want %v", payload, got, want)
		}
	}
	for payload, foreign := range map[string]bool{
		`{}`: false, `{"aud":"https://containerregistry.azure.net"}`: false, `{"aud":"HTTPS://ContainerRegistry.azure.net/"}`: false,
		`{"aud":"6a0ec4d3-30cb-4a83-91c0-ae56bc0e3d26"}`: false, `{"aud":["https://vault.azure.net"]}`: false, `{"aud":7}`: false,
		`{"aud":"https://vault.azure.net"}`: true, `{"aud":"https://management.azure.com/"}`: true, `{"aud":"api://AzureADTokenExchange"}`: true,
		`{"aud":"https://containerregistry.azure.net.evil.example"}`: true, `{"aud":"http://containerregistry.azure.net"}`: true,
	} {
		if got := readClaims(jwt(payload)).foreign(); got != foreign {
			t.Errorf("%s is foreign: %v", payload, got)
		}
	}
	for _, token := range []string{"", "opaque", "a.b", "a.!.c", jwt("{")} {
		if c := readClaims(token); c != (claims{}) {
			t.Errorf("%q says %+v", token, c)
		}
	}
}

// TestStripRefusal: of a refusal only codes are kept, and a challenge that repeats no
// secret.
func TestStripRefusal(t *testing.T) {
	const secret = "its-secret"
	for answer, want := range map[string]string{
		`{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret its-secret.","x":"its-secret"}`: `{"error":"invalid_client","error_description":"AADSTS7000215"}`,
		`{"error":{"code":"Forbidden","message":"its-secret","innererror":{"code":"its-secret"}}}`:                           `{"error":{"code":"Forbidden"}}`,
		`{"error":"its secret","error_description":"its-secret"}`:                                                            `{"error":"","error_description":""}`,
		`{"error":{"code":"its secret"}}`: `{"error":{"code":""}}`,
		`{"error":[1]}`:                   `{}`, `its-secret`: `{}`, ``: `{}`, `[]`: `{}`,
	} {
		for challenge, kept := range map[string]bool{`Bearer resource="https://vault.azure.net"`: true, "Bearer x=" + secret: false} {
			for _, sent := range []string{"Authorization", "X-Identity-Header", ""} {
				req := &http.Request{Method: http.MethodGet, Header: http.Header{}}
				req.Header.Set(sent, secret)
				if sent == "Authorization" {
					req.Header.Set(sent, "Bearer "+secret)
				}
				resp := &http.Response{StatusCode: 401, Header: http.Header{"Www-Authenticate": {challenge}, "Retry-After": {"7"}, "X-Ms-Error-Code": {secret}}, Body: io.NopCloser(strings.NewReader(answer))}
				err := stripRefusal(req, resp)
				body, _ := io.ReadAll(resp.Body)
				if err != nil || string(body) != want || resp.ContentLength != int64(len(want)) || resp.Header.Get("Retry-After") != "7" || resp.Header.Get("X-Ms-Error-Code") != "" {
					t.Errorf("%s became %s, %v, %v", answer, body, resp.Header, err)
				}
				if got := resp.Header.Get("Www-Authenticate") != ""; got != (kept || sent == "") {
					t.Errorf("a challenge %q to a request with %q: %v", challenge, sent, got)
				}
			}
		}
	}
	req := &http.Request{Method: http.MethodPost, Header: http.Header{}}
	resp := &http.Response{Header: http.Header{"Www-Authenticate": {"Bearer"}}, Body: io.NopCloser(strings.NewReader(""))}
	if err := stripRefusal(req, resp); err != nil || resp.Header.Get("Www-Authenticate") != "" {
		t.Errorf("a challenge to a request with a body: %v, %v", resp.Header, err)
	}
}

// TestDefaultClients: by default the managed-identity endpoint is requested without the
// proxies of the environment, and no client follows redirects.
func TestDefaultClients(t *testing.T) {
	s, err := Options{}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	if tr := s.identity.Transport.(*http.Transport); tr.Proxy != nil {
		t.Error("a token of the machine would pass through a proxy")
	}
	if tr := s.client.Transport.(*http.Transport); tr.Proxy == nil {
		t.Error("Entra cannot be reached through a proxy")
	}
	theirs := &http.Client{Transport: http.DefaultTransport}
	given, err := Options{Client: theirs, ManagedIdentity: theirs}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*http.Client{s.identity, s.client, given.identity, given.client} {
		if c.CheckRedirect == nil || c.CheckRedirect(nil, nil) != http.ErrUseLastResponse {
			t.Error("a redirect is followed")
		}
	}
	if theirs.CheckRedirect != nil || given.client.Transport != theirs.Transport {
		t.Error("the embedder's client was changed, or is not used")
	}
}

func FuzzClaims(f *testing.F) {
	f.Add(jwt(`{"tid":"x","iat":1,"exp":2}`))
	f.Fuzz(func(t *testing.T, token string) {
		if d := readClaims(token).lifetime(time.Unix(1_800_000_000, 0)); d < shortestLifetime || d > longestLifetime {
			t.Errorf("%q lives %v", token, d)
		}
	})
}
