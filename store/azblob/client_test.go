package azblob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pullthrough/pullthrough/auth"
)

// TestClientOptions: what cannot work is refused before anything is sent, and no error has a
// secret.
func TestClientOptions(t *testing.T) {
	const address = "https://account.blob.core.windows.net/images"
	sas, key := auth.NewSensitive(fakeSAS), auth.NewSensitive(azuriteKey)
	for name, c := range map[string]struct {
		o   ClientOptions
		url string // or empty: refused
	}{
		"identity":                   {ClientOptions{URL: address, Credential: token{}}, address},
		"key":                        {ClientOptions{URL: address + "/", Key: key}, address},
		"SAS":                        {ClientOptions{URL: address, SAS: sas}, address},
		"SAS with question mark":     {ClientOptions{URL: address, SAS: auth.NewSensitive("?" + fakeSAS)}, address},
		"emulator":                   {ClientOptions{URL: "http://127.0.0.1:10000/devstoreaccount1/images", Key: key}, "http://127.0.0.1:10000/devstoreaccount1/images"},
		"SAS to this machine":        {ClientOptions{URL: "http://localhost:10000/account/images", SAS: sas}, "http://localhost:10000/account/images"},
		"connection string":          {ClientOptions{ConnectionString: auth.NewSensitive("AccountName=account;AccountKey=" + azuriteKey), Container: "images"}, address},
		"connection string with SAS": {ClientOptions{ConnectionString: auth.NewSensitive("BlobEndpoint=https://account.blob.core.windows.net;SharedAccessSignature=" + fakeSAS), Container: "images"}, address},

		"nothing":                   {ClientOptions{}, ""},
		"no credential":             {ClientOptions{URL: address}, ""},
		"two credentials":           {ClientOptions{URL: address, Key: key, SAS: sas}, ""},
		"no container":              {ClientOptions{URL: "https://account.blob.core.windows.net", Key: key}, ""},
		"a folder":                  {ClientOptions{URL: address + "/cache", Key: key}, ""},
		"a container's wrong name":  {ClientOptions{URL: "https://account.blob.core.windows.net/Images", Key: key}, ""},
		"SAS in the URL":            {ClientOptions{URL: address + "?" + fakeSAS, Key: key}, ""},
		"no URL":                    {ClientOptions{URL: "https://account.blob%" + secret, Key: key}, ""},
		"user in the URL":           {ClientOptions{URL: "https://u:" + secret + "@account.blob.core.windows.net/images", Key: key}, ""},
		"another scheme":            {ClientOptions{URL: "ftp://account.blob.core.windows.net/images", Key: key}, ""},
		"token over http":           {ClientOptions{URL: "http://127.0.0.1:10000/account/images", Credential: token{}}, ""},
		"SAS over http":             {ClientOptions{URL: "http://account.blob.core.windows.net/images", SAS: sas}, ""},
		"key that is no base64":     {ClientOptions{URL: address, Key: auth.NewSensitive("%" + secret)}, ""},
		"string without container":  {ClientOptions{ConnectionString: auth.NewSensitive("AccountName=a;AccountKey=" + azuriteKey)}, ""},
		"string and URL":            {ClientOptions{URL: address, ConnectionString: auth.NewSensitive("AccountName=a;AccountKey=" + azuriteKey), Container: "images"}, ""},
		"string that is none":       {ClientOptions{ConnectionString: auth.NewSensitive(secret), Container: "images"}, ""},
		"string with half of a key": {ClientOptions{ConnectionString: auth.NewSensitive("AccountName=a;AccountKey=%" + secret), Container: "images"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := NewClient(c.o)
			switch {
			case (err == nil) != (c.url != ""):
				t.Errorf("got error %v", err)
			case err != nil && strings.Contains(printed(err), secret):
				t.Errorf("the error has a secret: %v", err)
			case err == nil && newBucket(client).String() != c.url:
				t.Errorf("the bucket is %s, want %s", newBucket(client), c.url)
			}
		})
	}
	if _, err := New(Options{}); err == nil {
		t.Error("a store without a client")
	}
}

// TestRedirectsAreNotFollowed: what opens the container is for its host alone.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var asked atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer other.Close()
	f := newFake(t)
	f.meddle(func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		http.Redirect(w, r, other.URL+r.URL.String(), http.StatusTemporaryRedirect)
	})
	for method, err := range everything(t.Context(), f.bucket()) {
		if err == nil {
			t.Errorf("%s succeeds", method)
		}
	}
	if asked.Load() > 0 {
		t.Errorf("the other host got %d requests", asked.Load())
	}
}

// secureFake is a fake behind https, and a client that trusts it.
func secureFake(t *testing.T) (*fake, *httptest.Server) {
	f := newFake(t)
	s := httptest.NewTLSServer(f)
	t.Cleanup(s.Close)
	return f, s
}

// imds answers as the managed-identity endpoint of a machine, and keeps what it was asked.
type imds struct {
	mu    sync.Mutex
	asked []url.Values
}

func (i *imds) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = append(i.asked, r.URL.Query())
	body := fmt.Sprintf(`{"access_token":"bearer%s","token_type":"Bearer","expires_in":"86400","resource":"https://storage.azure.com/"}`, secret)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// TestManagedIdentity: the identity is asked for once, by the ID that was given, and opens
// the container.
func TestManagedIdentity(t *testing.T) {
	// The SDK keeps tokens for the whole process, so that no two runs may have one ID.
	resource := "/subscriptions/0A0A0A0A-0000-0000-0000-000000000000/resourceGroups/G/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + rand.Text()
	client := fmt.Sprintf("0B0B0B0B-0000-0000-0000-%012X", mathrand.Int64N(1<<48))
	for _, c := range []struct {
		id, parameter, want string
		least               int // requests to the machine, of 1 at most
	}{
		{resource, "msi_res_id", strings.ToLower(resource), 1},
		{client, "client_id", strings.ToLower(client), 1},
		{"", "resource", "https://storage.azure.com", 0},
	} {
		machine := &imds{}
		credential, err := ManagedIdentity(c.id, &http.Client{Transport: machine})
		if err != nil {
			t.Fatal(err)
		}
		f, s := secureFake(t)
		f.meddle(func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
			if r.Header.Get("Authorization") != "Bearer bearer"+secret {
				refuse(w, http.StatusForbidden, "AuthenticationFailed")
				return
			}
			next(w, r)
		})
		client, err := NewClient(ClientOptions{URL: s.URL + "/account/images", Credential: credential, HTTP: s.Client()})
		if err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		f.write("a", "1")
		for range 20 {
			wait.Go(func() {
				if _, err := newBucket(client).Head(t.Context(), "a"); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if n := len(machine.asked); n < c.least || n > 1 {
			t.Errorf("the machine was asked %d times for %s", n, c.want)
		}
		for _, q := range machine.asked {
			if got := strings.TrimSuffix(q.Get(c.parameter), "/"); got != c.want {
				t.Errorf("the machine was asked for %s=%s, want %s", c.parameter, got, c.want)
			}
		}
	}
	for _, id := range []string{"cache", "/subscriptions/x", "0b0b0b0b"} {
		if _, err := ManagedIdentity(id, nil); err == nil {
			t.Errorf("%q is taken for the ID of an identity", id)
		}
	}
}

// TestIdentityWithoutToken: an identity that gets no token fails everything, and the reason
// has no secret.
func TestIdentityWithoutToken(t *testing.T) {
	refusing := &http.Client{Transport: tripperFunc(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"error":"invalid_request","error_description":"` + secret + `"}`)), Request: r}, nil
	})}
	refused, err := ManagedIdentity("0b0b0b0b-0000-0000-0000-000000000002", refusing)
	if err != nil {
		t.Fatal(err)
	}
	for name, credential := range map[string]azcore.TokenCredential{"IMDS": refused, "another": token{errors.New("no " + secret)}} {
		_, s := secureFake(t)
		c, err := NewClient(ClientOptions{URL: s.URL + "/account/images", Credential: credential, HTTP: s.Client(), Retry: policy.RetryOptions{RetryDelay: 1}})
		if err != nil {
			t.Fatal(err)
		}
		for method, err := range everything(t.Context(), newBucket(c)) {
			if err == nil || strings.Contains(printed(err), secret) {
				t.Errorf("%s: %s: %v", name, method, err)
			}
		}
	}
}

type tripperFunc func(*http.Request) (*http.Response, error)

func (f tripperFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// token is a credential of an identity.
type token struct{ err error }

func (c token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "bearer" + secret}, c.err
}
