package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

const (
	devRegistry = "devregistry.azurecr.io"
	// identityHeader is what the managed-identity endpoint wants to see.
	identityHeader = "secret-identity-header"
)

// cloud is as much of Azure as a process can be shown: a managed-identity
// endpoint of App Service, and a CONNECT proxy behind which the registry has
// its production name. It is modelled on public descriptions.
type cloud struct {
	t       *testing.T
	content *upstreamtest.Registry
	env     []string

	mu      sync.Mutex
	asked   []string // CONNECT targets and managed-identity requests
	missing bool     // the machine has no identity
}

func newCloud(t *testing.T) *cloud {
	c := &cloud{t: t, content: upstreamtest.NewRegistry(t)}
	registry := httptest.NewUnstartedServer(http.HandlerFunc(c.registry))
	dir := t.TempDir()
	ca, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, ca, key, devRegistry)
	pair, err := tls.LoadX509KeyPair(ca, key)
	if err != nil {
		t.Fatal(err)
	}
	registry.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	registry.EnableHTTP2 = true
	registry.StartTLS()
	t.Cleanup(registry.Close)
	identity := httptest.NewServer(http.HandlerFunc(c.identity))
	t.Cleanup(identity.Close)
	proxy := httptest.NewServer(c.connect(registry.Listener.Addr().String()))
	t.Cleanup(proxy.Close)
	c.env = []string{
		"HTTPS_PROXY=" + proxy.URL, "HTTP_PROXY=" + proxy.URL, "NO_PROXY=", "SSL_CERT_FILE=" + ca,
		"IDENTITY_ENDPOINT=" + identity.URL + "/msi/token", "IDENTITY_HEADER=" + identityHeader,
	}
	return c
}

func (c *cloud) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, what)
}

func (c *cloud) count(what string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.asked {
		if a == what {
			n++
		}
	}
	return n
}

// connect is a proxy that reaches the registry and nothing else.
func (c *cloud) connect(address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.note(r.Method + " " + r.Host)
		if r.Method != http.MethodConnect || r.Host != devRegistry+":443" {
			http.Error(w, "no such host", http.StatusBadGateway)
			return
		}
		far, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			c.t.Error(err)
			return
		}
		go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
		_, _ = io.Copy(near, far)
		_ = near.Close()
	})
}

func (c *cloud) identity(w http.ResponseWriter, r *http.Request) {
	c.note("identity")
	q := r.URL.Query()
	if r.Header.Get("X-IDENTITY-HEADER") != identityHeader || q.Get("mi_res_id") != strings.ToLower(uami) || q.Get("resource") != "https://containerregistry.azure.net" {
		c.t.Errorf("the managed-identity endpoint was asked %s with %v", r.URL, r.Header)
	}
	c.mu.Lock()
	missing := c.missing
	c.mu.Unlock()
	if missing {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found"}`)
		return
	}
	_, _ = io.WriteString(w, `{"access_token":"secret-entra-token","expires_on":"4102444800","resource":"https://containerregistry.azure.net","token_type":"Bearer"}`)
}

// registry exchanges tokens and asks for them; its content is upstreamtest's.
func (c *cloud) registry(w http.ResponseWriter, r *http.Request) {
	reply := func(key, value string) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{key: value})
	}
	_ = r.ParseForm()
	switch {
	case r.Host != devRegistry:
		c.t.Errorf("the registry was asked as %q", r.Host)
	case r.URL.Path == "/oauth2/exchange" && r.PostForm.Get("access_token") == "secret-entra-token" && r.PostForm.Get("service") == devRegistry:
		reply("refresh_token", "secret-refresh-token")
	case r.URL.Path == "/oauth2/token" && r.PostForm.Get("refresh_token") == "secret-refresh-token":
		reply("access_token", "secret-access-token")
	case r.Header.Get("Authorization") != "Bearer secret-access-token":
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="https://%s/oauth2/token",service="%s"`, devRegistry, devRegistry))
		w.WriteHeader(http.StatusUnauthorized)
	default:
		to, err := url.Parse(c.content.URL())
		if err != nil {
			c.t.Error(err)
			return
		}
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) }}).ServeHTTP(w, r)
	}
}

func promotion() string {
	return "listen: 127.0.0.1:0\ntenant: 11111111-2222-3333-4444-555555555555\n" + assigned +
		"rules:\n  - {name: promote, source: " + devRegistry + "/team-a/*, target: promoted/*, identity: " + uami + "}\n"
}

// wantNoSecret looks for tokens in all that the process printed and answered.
func wantNoSecret(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(text, "secret-") {
			t.Errorf("a secret is in %q", text)
		}
	}
}

// TestManagedIdentity runs the program as it runs in App Service, with the real
// SDK: production names, a proxy of the company, a private authority.
func TestManagedIdentity(t *testing.T) {
	c := newCloud(t)
	img := c.content.AddImage("team-a/api", "1.4.0", upstreamtest.Layers(1, 1000))
	p := startProxy(t, promotion(), c.env...)
	for range 2 {
		status, body := fetch(t, client(), p.url+"/v2/promoted/api/manifests/1.4.0")
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		for _, blob := range append(img.Layers, img.Config) {
			if status, _ := fetch(t, client(), p.url+"/v2/promoted/api/blobs/"+blob.Digest.String()); status != http.StatusOK {
				t.Errorf("%s: %d", blob.Digest, status)
			}
		}
	}
	if n := c.count("identity"); n != 1 {
		t.Errorf("the managed-identity endpoint was asked %d times, want once", n)
	}
	if c.count("CONNECT "+devRegistry+":443") == 0 {
		t.Error("the company's proxy was not used")
	}
	c.mu.Lock()
	for _, a := range c.asked {
		if a != "identity" && a != "CONNECT "+devRegistry+":443" {
			t.Errorf("the proxy was asked for %s", a)
		}
	}
	c.mu.Unlock()
	wantNoSecret(t, p.out.String(), p.log.String())
}

func TestMissingIdentity(t *testing.T) {
	c := newCloud(t)
	c.missing = true
	p := startProxy(t, promotion(), c.env...)
	status, body := fetch(t, client(), p.url+"/v2/promoted/api/manifests/1.4.0")
	if status != http.StatusForbidden || !strings.Contains(string(body), "does not exist or is not associated with this registry") || !strings.Contains(string(body), strings.ToLower(uami)) {
		t.Errorf("%d %s", status, body)
	}
	if c.count("CONNECT "+devRegistry+":443") != 0 {
		t.Error("the registry was asked without a credential")
	}
	wantNoSecret(t, p.out.String(), p.log.String(), string(body))
}
