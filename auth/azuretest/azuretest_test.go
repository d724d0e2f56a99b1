package azuretest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// pull pulls an image with the production code: the manifest, then the layer in two pieces.
func pull(t *testing.T, az *azuretest.Azure, r *azuretest.Registry, id *azuretest.Identity, transport http.RoundTripper, o azure.Options) {
	t.Helper()
	o.TenantID = az.TenantID()
	ids, err := azure.NewIdentities(o, id.ResourceID)
	if err != nil {
		t.Fatal(err)
	}
	uami, err := ids.UserAssigned(id.ResourceID)
	if err != nil {
		t.Fatal(err)
	}
	img := r.Content.AddImage("team-a/api", "1.4.0", upstreamtest.Layers(1, 1000))
	up := &upstream.Client{Transport: transport}
	repo, err := up.Open(upstream.Source{Rule: "promote", Host: r.LoginServer(), Repository: "team-a/api"}, uami)
	if err != nil {
		t.Fatal(err)
	}
	if _, m, err := repo.Manifest(t.Context(), "1.4.0"); err != nil || string(m) != string(img.Manifest) {
		t.Fatalf("%q, %v", m, err)
	}
	d := img.Layers[0].Digest
	for _, offset := range []int64{0, 400} {
		b, err := repo.Blob(t.Context(), d, offset, -1)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(b)
		_ = b.Close()
		if err != nil || string(data) != string(r.Content.Blob("team-a/api", d)[offset:]) {
			t.Errorf("from %d: %d bytes, %v", offset, len(data), err)
		}
	}
	if n := az.Count(azuretest.Data); n != 2 {
		t.Errorf("the data endpoint was asked %d times", n)
	}
	if len(az.Refused()) > 0 {
		t.Errorf("somebody wanted to reach %v", az.Refused())
	}
}

func TestProductionNames(t *testing.T) {
	az := azuretest.New(t)
	r, id := az.NewRegistry("devregistry-a1b2"), az.NewIdentity("promote")
	r.Grant(id.PrincipalID)
	pull(t, az, r, id, az.Transport(), azure.Options{Client: az.Client(), ManagedIdentity: az.ManagedIdentityClient()})
	for _, c := range az.Calls() {
		if c.Endpoint != azuretest.IMDS && c.Host != r.LoginServer() && c.Host != r.DataServer() || c.Status == 0 {
			t.Errorf("%+v", c)
		}
	}
	if len(az.Secrets()) != 5 { // Entra, refresh, access, two links
		t.Errorf("%d secrets", len(az.Secrets()))
	}
}

func TestDirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		az := azuretest.New(t)
		r, id := az.NewRegistry("devregistry"), az.NewIdentity("promote")
		r.Grant(id.PrincipalID, "team-a/api")
		pull(t, az, r, id, az.Direct().Transport, azure.Options{Client: az.Direct(), ManagedIdentity: az.Direct()})
	})
}

// A process reaches Azure through its environment: a proxy, and an App Service.
func TestProxyAndAppService(t *testing.T) {
	az := azuretest.New(t)
	r, id := az.NewRegistry("devregistry"), az.NewIdentity("promote")
	r.Grant(id.PrincipalID)
	env, err := az.AppService()
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range env {
		t.Setenv(k, v)
	}
	text, err := az.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	transport := az.Transport()
	transport.DialContext, transport.Proxy = nil, http.ProxyURL(proxy)
	defer transport.CloseIdleConnections()
	pull(t, az, r, id, transport, azure.Options{Client: &http.Client{Transport: transport}})
	if az.Count(azuretest.AppService) != 1 || az.Count(azuretest.IMDS) != 0 {
		t.Errorf("App Service %d, IMDS %d", az.Count(azuretest.AppService), az.Count(azuretest.IMDS))
	}
	if _, err := (&http.Client{Transport: transport}).Get("https://elsewhere.example/"); err == nil || len(az.Refused()) != 1 {
		t.Errorf("%v, refused: %v", err, az.Refused())
	}
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that no deadline passes before the call arrives
		az := azuretest.New(nil)
		defer az.Close()
		r := az.NewRegistry("devregistry")
		get := func(ctx context.Context) (*http.Response, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.LoginServer()+"/v2/", nil)
			if err != nil {
				t.Fatal(err)
			}
			return az.Direct().Do(req)
		}
		want := func(status int) {
			t.Helper()
			if resp, err := get(t.Context()); err != nil || resp.StatusCode != status {
				t.Errorf("%+v, %v; want %d", resp, err, status)
			}
		}
		az.Fail(azuretest.V2, azuretest.Fault{Status: 503, RetryAfter: "7", Times: 2})
		az.Fail(azuretest.V2, azuretest.Fault{Status: 429})
		for _, status := range []int{503, 503, 429, 429} {
			want(status)
		}
		az.Heal()
		want(401)
		az.Fail(azuretest.V2, azuretest.Fault{Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if n := az.Count(azuretest.V2); n != 6 || az.Calls()[0].Status != 503 || az.Calls()[5].Status != 0 {
			t.Errorf("%d calls: %+v", n, az.Calls())
		}
		az.Reset()
		if len(az.Calls()) != 0 {
			t.Error("Reset forgets")
		}
	})
}

// TestStatusIsNotedBeforeItArrives: a client that has the header of a response finds its status in
// the log, though the response goes on.
func TestStatusIsNotedBeforeItArrives(t *testing.T) {
	az := azuretest.New(t)
	r := az.NewRegistry("dev")
	read := make(chan struct{})
	az.Fail(azuretest.V2, azuretest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_ = http.NewResponseController(w).Flush()
		<-read
	}})
	resp, err := az.Client().Get("https://" + r.LoginServer() + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	calls := az.Calls()
	close(read)
	_ = resp.Body.Close()
	if len(calls) != 1 || calls[0].Status != http.StatusTeapot {
		t.Errorf("%+v", calls)
	}
}

// A call that Reset removed while it is served does not change another call.
func TestResetWhileACallRuns(t *testing.T) {
	az := azuretest.New(nil)
	defer az.Close()
	r := az.NewRegistry("dev")
	get := func(path string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, "https://"+r.LoginServer()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		read(t, az.Direct(), req)
	}
	az.Fail(azuretest.V2, azuretest.Fault{Times: 1, Do: func(w http.ResponseWriter, _ *http.Request) {
		az.Reset()
		get("/v2/second")
		w.WriteHeader(http.StatusTeapot)
	}})
	get("/v2/first")
	if calls := az.Calls(); len(calls) != 1 || calls[0].URL.Path != "/v2/second" || calls[0].Status != http.StatusUnauthorized {
		t.Errorf("%+v", calls)
	}
}

// AppService may be called concurrently while it starts.
func TestAppServiceThatStarts(t *testing.T) {
	for range 20 {
		az := azuretest.New(nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 5 {
				req, err := http.NewRequest(http.MethodGet, "http://appservice.local/msi/token?resource=https://vault.azure.net", nil)
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := az.Direct().Do(req)
				if err != nil || resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("%v, %v", resp, err)
				}
			}
		})
		wg.Go(func() {
			if _, err := az.AppService(); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		az.Close()
	}
}

// A fault that cuts a response off reaches a client in memory as it does over a socket.
func TestCut(t *testing.T) {
	az := azuretest.New(t)
	r := az.NewRegistry("devregistry")
	r.AddToken("puller", "its-password")
	img := r.Content.AddImage("app", "v1", upstreamtest.Layers(1, 1000))
	r.Content.Fail(upstreamtest.Fault{Kind: "blob", Cut: 300})
	for _, client := range []*http.Client{az.Client(), az.Direct()} {
		req, _ := http.NewRequest(http.MethodGet, "https://"+r.LoginServer()+"/v2/app/blobs/"+img.Layers[0].Digest.String(), nil)
		req.SetBasicAuth("puller", "its-password")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if len(data) != 300 || err == nil || resp.Header.Get("Docker-Content-Digest") != "" {
			t.Errorf("%d bytes, %v, %v", len(data), err, resp.Header)
		}
	}
}

func TestVersionsOfASecret(t *testing.T) {
	az := azuretest.New(t)
	v, id := az.NewVault("v"), az.NewIdentity("reader")
	first := v.Set("password", "one")
	v.Set("password", "two")
	v.Disable("password")
	token := imds(t, az, "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net&msi_res_id="+url.QueryEscape(id.ResourceID))
	get := func(path string) string {
		t.Helper()
		req, _ := http.NewRequest(http.MethodGet, v.SecretID("password")+path+"?api-version=7.5", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		return read(t, az.Client(), req)
	}
	if text := get(""); !strings.Contains(text, "not authorized") {
		t.Error(text)
	}
	v.Grant(id.PrincipalID)
	if text := get(""); !strings.Contains(text, "disabled") {
		t.Error(text)
	}
	if text := get("/" + first); !strings.Contains(text, `"one"`) {
		t.Error(text)
	}
	id.RevokeTokens()
	if text := get("/" + first); !strings.Contains(text, "Unauthorized") {
		t.Error(text)
	}
}
