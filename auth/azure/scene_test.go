package azure_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

const dev = "dev.azurecr.io"

// scene is a registry with two repositories that hold the same image, and identities. Tests
// pull from it with the real upstream client.
type scene struct {
	*azuretest.Azure
	t               *testing.T
	client, machine *http.Client // for Azure, and for the managed-identity endpoint
	registry        *azuretest.Registry
	img             upstreamtest.Image // team-a/api:v1 and team-b/api:v1
	ids             *azure.Identities
	up              *upstream.Client
	behind          map[*azure.UserAssigned]*azuretest.Identity
}

// roundTrip is a transport that does not print what is behind it.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newScene is a scene in memory.
func newScene(t *testing.T) *scene {
	az := azuretest.New(t)
	direct := &http.Client{Transport: roundTrip(az.Direct().Transport.RoundTrip)}
	return newSceneOf(t, az, direct, direct)
}

// newWiredScene is a scene on loopback, for downloads that take their time.
func newWiredScene(t *testing.T) *scene {
	az := azuretest.New(t)
	return newSceneOf(t, az, az.Client(), az.ManagedIdentityClient())
}

func newSceneOf(t *testing.T, az *azuretest.Azure, client, machine *http.Client) *scene {
	s := &scene{Azure: az, t: t, client: client, machine: machine, behind: map[*azure.UserAssigned]*azuretest.Identity{}}
	s.registry = s.NewRegistry("dev")
	for _, repository := range []string{"team-a/api", "team-b/api"} {
		s.img = s.registry.Content.AddImage(repository, "v1", upstreamtest.Layers(1, 100))
	}
	ids, err := azure.NewIdentities(s.options())
	if err != nil {
		t.Fatal(err)
	}
	s.ids, s.up = ids, &upstream.Client{Transport: client.Transport}
	return s
}

func (s *scene) options() azure.Options {
	return azure.Options{TenantID: s.TenantID(), Client: s.client, ManagedIdentity: s.machine,
		Retry: policy.RetryOptions{MaxRetries: -1}, Timeout: 10 * time.Second}
}

// identity assigns an identity that may pull from repositories.
func (s *scene) identity(repositories ...string) *azure.UserAssigned {
	s.t.Helper()
	return s.assign(s.NewIdentity("promote"), repositories...)
}

func (s *scene) assign(id *azuretest.Identity, repositories ...string) *azure.UserAssigned {
	s.t.Helper()
	if err := s.ids.Assign(id.ResourceID); err != nil {
		s.t.Fatal(err)
	}
	u, err := s.ids.UserAssigned(id.ResourceID)
	if err != nil {
		s.t.Fatal(err)
	}
	s.behind[u] = id
	if len(repositories) > 0 {
		s.registry.Grant(id.PrincipalID, repositories...)
	}
	return u
}

func (s *scene) pull(rule, repository string, a auth.Authenticator) error {
	r, err := s.up.Open(upstream.Source{Rule: rule, Host: dev, Repository: repository}, a)
	if err != nil {
		return err
	}
	_, _, err = r.Manifest(s.t.Context(), "v1")
	return err
}

// want compares numbers of calls: an endpoint, a number, and so on.
func (s *scene) want(what string, counts ...any) {
	s.t.Helper()
	for i := 0; i < len(counts); i += 2 {
		if got := s.Count(counts[i].(azuretest.Endpoint)); got != counts[i+1] {
			s.t.Errorf("%s: %d calls of %s, want %d", what, got, counts[i], counts[i+1])
		}
	}
}

// wantNoSecret looks for every secret of the fake in a text.
func (s *scene) wantNoSecret(what, text string) {
	s.t.Helper()
	for _, secret := range s.Secrets() {
		if strings.Contains(text, secret.Text) {
			s.t.Errorf("%s: a %s is in %q", what, secret.What, text)
		}
	}
}

// status is a response with a status and the text of a registry's firewall.
func status(code int, header ...string) azuretest.Fault {
	return azuretest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(`{"errors":[{"code":"DENIED","message":"client with IP '203.0.113.7' is not allowed access."}]}`))
	}}
}

// body is a response with status 200 and this body.
func body(text string) azuretest.Fault {
	return azuretest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }}
}

// credential returns the credential of an authenticator for the rule "r".
func (s *scene) credential(a auth.Authenticator) (auth.Credential, error) {
	return a.Credential(context.WithoutCancel(s.t.Context()), auth.Request{Rule: "r", Host: dev, Repository: "team-a/api"})
}
