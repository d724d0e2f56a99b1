package azure_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

const big = 1 << 20

// tokenSet makes a credential set of an ACR token that may pull from team-a/api.
func (s *scene) tokenSet(name string) *auth.CredentialSet {
	s.registry.AddToken(name, "password-of-"+name, "team-a/api")
	return &auth.CredentialSet{Name: name, LoginServer: dev,
		Username: auth.Value{Text: auth.NewSensitive(name)}, Password: auth.Value{Text: auth.NewSensitive("password-of-" + name)}}
}

// promoteRule is the rule that the tests of swaps have.
func promoteRule(a auth.Authenticator) rule.Rule {
	return rule.Rule{Name: "promote", Source: dev + "/team-a/api", Target: "promoted/api", Auth: a}
}

// swap replaces a rule's authenticator.
type swap struct {
	name     string
	from, to func(*scene) auth.Authenticator
}

func swaps() []swap {
	identity := func(s *scene) auth.Authenticator { return s.identity("team-a/api") }
	return []swap{
		{"identity to identity", identity, identity},
		{"credential set to identity", func(s *scene) auth.Authenticator { return s.tokenSet("old") }, identity},
		{"identity to credential set", identity, func(s *scene) auth.Authenticator { return s.tokenSet("new") }},
	}
}

// do gives the rule its new authenticator, and returns the secrets that must not be sent
// from now on.
func (w swap) do(c *cached) (old []azuretest.Secret, asked []string) {
	c.t.Helper()
	old = c.Secrets()
	to := w.to(c.scene)
	if err := c.rules.SetAuth("promote", to); err != nil {
		c.t.Fatal(err)
	}
	if u, ok := to.(*azure.UserAssigned); ok {
		asked = []string{u.ResourceID()}
	}
	c.Reset()
	return old, asked
}

// TestSwapDuringADownload: a download that is under way finishes with the old credential,
// requests that begin afterwards use the new one, and no secret of the old one is sent
// again.
func TestSwapDuringADownload(t *testing.T) {
	for _, w := range swaps() {
		t.Run(w.name, func(t *testing.T) {
			s := newWiredScene(t)
			c := s.serve(promoteRule(w.from(s)))
			img := s.registry.Content.AddImage("team-a/api", "big", upstreamtest.Layers(1, big))
			h := s.hold("team-a/api", img.Layers[0].Digest, false)
			running := c.downloading("promoted/api", "big", img, h)

			old, asked := w.do(c)
			c.pullImage("promoted/api", "v1", s.img)
			h.release()
			if whole, err := running.end(); !whole || err != nil {
				t.Errorf("the download that ran: %v", err)
			}
			c.settle()
			for _, call := range s.Calls() {
				if strings.Contains(call.URL.Path, img.Layers[0].Digest.Encoded()) {
					t.Errorf("the download began anew: %s %s", call.Method, call.URL.Path)
				}
			}
			s.wantUnused(old)
			s.wantAsked(asked...)
			s.Reset()
			c.pullImage("promoted/api", "big", img) // complete, and pulled with the new one
			s.want("a pull of what is complete", azuretest.V2, 1, azuretest.Data, 0)
			s.wantUnused(old)
		})
	}
}

// TestResumeAfterASwap: a download whose connection breaks is resumed with the new
// credential.
func TestResumeAfterASwap(t *testing.T) {
	for _, w := range swaps() {
		t.Run(w.name, func(t *testing.T) {
			s := newWiredScene(t)
			c := s.serve(promoteRule(w.from(s)))
			img := s.registry.Content.AddImage("team-a/api", "big", upstreamtest.Layers(1, big))
			h := s.hold("team-a/api", img.Layers[0].Digest, true)
			running := c.downloading("promoted/api", "big", img, h)

			old, asked := w.do(c)
			h.release()
			if whole, err := running.end(); !whole || err != nil {
				t.Errorf("the download: %v", err)
			}
			c.settle()
			s.wantUnused(old)
			s.wantAsked(asked...)
			s.want("one connection more", azuretest.Data, 1)
			for _, call := range s.Calls() {
				if call.Endpoint == azuretest.Data && !strings.HasPrefix(call.Header.Get("Range"), "bytes=") {
					t.Error("everything was asked for, not the rest")
				}
			}
		})
	}
}

// TestResumeWithoutARight: a download that cannot be resumed, since the new credential
// lacks a right, breaks off instead of seeming complete.
func TestResumeWithoutARight(t *testing.T) {
	s := newWiredScene(t)
	a, b := s.identity("team-a/api"), s.identity()
	c := s.serve(promoteRule(a))
	img := s.registry.Content.AddImage("team-a/api", "big", upstreamtest.Layers(1, big))
	h := s.hold("team-a/api", img.Layers[0].Digest, true)
	running := c.downloading("promoted/api", "big", img, h)
	old, _ := swap{to: func(*scene) auth.Authenticator { return b }}.do(c)
	h.release()
	if whole, err := running.end(); whole || err == nil {
		t.Errorf("whole %v, %v", whole, err)
	}
	c.wantDenied("GET", blobs("promoted/api", img.Layers[0].Digest), b.ResourceID(), "Container Registry Repository Reader", "AcrPull")
	s.wantUnused(old)
	s.wantAsked(b.ResourceID())
}

// TestUnassignDuringADownload: an identity that was unassigned gets no more tokens, and a
// download that is under way finishes.
func TestUnassignDuringADownload(t *testing.T) {
	s := newWiredScene(t)
	a := s.identity("team-a/api")
	c := s.serve(promoteRule(a))
	img := s.registry.Content.AddImage("team-a/api", "big", upstreamtest.Layers(1, big))
	h := s.hold("team-a/api", img.Layers[0].Digest, false)
	running := c.downloading("promoted/api", "big", img, h)
	if err := s.ids.Unassign(a.ResourceID()); err != nil {
		t.Fatal(err)
	}
	old := s.Secrets()
	s.Reset()
	c.wantDenied("GET", manifests("promoted/api", "v1"), a.ResourceID(), "is not associated with this registry")
	h.release()
	if whole, err := running.end(); !whole || err != nil {
		t.Errorf("the download that ran: %v", err)
	}
	c.settle()
	s.wantUnused(old)
	if r := c.wantManifest("promoted/api", "big", img); !strings.Contains(r.header.Get("Cache-Status"), "fwd=stale") {
		t.Errorf("what is complete: %v", r.header)
	}
	if err := c.rules.SetAuth("promote", a); err == nil {
		t.Error("an identity that is not assigned was attached")
	}
}

// TestRefusalsNameWhatIsMissing: the response to clients names the identity, the roles or
// the network that the source refuses.
func TestRefusalsNameWhatIsMissing(t *testing.T) {
	s := newWiredScene(t)
	a := s.identity()
	c := s.serve(promoteRule(a))
	c.wantDenied("GET", manifests("promoted/api", "v1"), "cache rule 'promote'", a.ResourceID(),
		"Container Registry Repository Reader", "b93aa761-3e63-49ed-ac28-beffa264f7ac", "Container Registry Repository Catalog Lister", "AcrPull", "7f951dda-4ed3-4680-a7ca-43fe172d538d")
	s.registry.SetFirewall("203.0.113.7")
	c.wantDenied("GET", manifests("promoted/api", "v1"), "203.0.113.7", a.ResourceID())
	s.registry.SetFirewall("")
	gone := s.identity("team-a/api")
	s.behind[gone].Detach()
	if err := c.rules.SetAuth("promote", gone); err != nil {
		t.Fatal(err)
	}
	c.wantDenied("GET", manifests("promoted/api", "v1"), gone.ResourceID(), "does not exist or is not associated with this registry")
	foreign := s.assign(s.NewIdentityIn(other, "foreign"))
	if err := c.rules.SetAuth("promote", foreign); err != nil {
		t.Fatal(err)
	}
	c.wantDenied("GET", manifests("promoted/api", "v1"), foreign.ResourceID(), other, "one tenant")
	if err := c.rules.SetAuth("promote", auth.FederatedIdentity{TenantID: other, ClientID: home}); err != nil {
		t.Fatal(err)
	}
	c.wantDenied("GET", manifests("promoted/api", "v1"), "federated identity", "not supported")
	busy := s.identity("team-a/api")
	s.Fail(azuretest.IMDS, status(http.StatusTooManyRequests, "Retry-After", "9"))
	if err := c.rules.SetAuth("promote", busy); err != nil {
		t.Fatal(err)
	}
	if r := c.do("GET", manifests("promoted/api", "v1")); r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") != "9" || !strings.Contains(string(r.body), busy.ResourceID()) {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
}
