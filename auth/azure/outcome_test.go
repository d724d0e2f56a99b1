package azure_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// patient lets the SDK retry as it does by default, as in production.
func (s *scene) patient() {
	s.t.Helper()
	o := s.options()
	o.Retry, o.Timeout = policy.RetryOptions{}, 0
	ids, err := azure.NewIdentities(o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ids = ids
}

// TestEverythingExpired: after a week without pulls every token has expired. The next pull works,
// and no request was sent meanwhile.
func TestEverythingExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		u := s.identity("team-a/api")
		for week := range 3 {
			s.want("before", azuretest.IMDS, week, azuretest.Exchange, week, azuretest.Token, week)
			if err := s.pull("rule", "team-a/api", u); err != nil {
				t.Errorf("week %d: %v", week, err)
			}
			time.Sleep(7 * 24 * time.Hour)
		}
		for _, c := range s.Calls() {
			if c.Status >= 400 && c.Status != http.StatusUnauthorized || c.Status == http.StatusUnauthorized && c.Endpoint != azuretest.V2 {
				t.Errorf("%s%s was answered with %d", c.Host, c.URL.Path, c.Status)
			}
		}
	})
}

// TestIMDSThatNeedsAMoment: while an identity is being attached, or IMDS is busy, the SDK
// retries, and a pull only waits.
func TestIMDSThatNeedsAMoment(t *testing.T) {
	for _, code := range []int{404, 410, 429, 500, 503} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			s.patient()
			c := s.inMemory(promoteRule(s.identity("team-a/api")))
			s.Fail(azuretest.IMDS, azuretest.Fault{Status: code, Times: 2})
			begun := time.Now()
			c.wantManifest("promoted/api", "v1", s.img)
			if took := time.Since(begun); took < time.Second || took > 15*time.Second {
				t.Errorf("%d: it took %v", code, took)
			}
			s.want("asked again", azuretest.IMDS, 3)
			c.settle()
		})
	}
}

// TestIMDSDown: while IMDS is down, a pull fails after the longest time that it may wait, or is
// served from the store after two seconds.
func TestIMDSDown(t *testing.T) {
	for name, fault := range map[string]azuretest.Fault{"500": {Status: 500}, "429": {Status: 429}, "404": {Status: 404}, "hangs": {Hang: true}} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			s.patient()
			c := s.inMemory(promoteRule(s.identity("team-a/api")))
			s.Fail(azuretest.IMDS, fault)
			ask := func(status int, most time.Duration) reply {
				t.Helper()
				begun := time.Now()
				r := c.do("GET", manifests("promoted/api", "v1"))
				if took := time.Since(begun); r.status != status || took > most {
					t.Errorf("%s: %d after %v: %s", name, r.status, took, r.body)
				}
				return r
			}
			ask(http.StatusGatewayTimeout, 20*time.Second)
			s.Heal()
			time.Sleep(2 * time.Minute)
			c.pullImage("promoted/api", "v1", s.img)
			c.settle()
			time.Sleep(30 * time.Hour)
			s.Fail(azuretest.IMDS, fault)
			if r := ask(http.StatusOK, 2*time.Second); !strings.Contains(r.header.Get("Cache-Status"), "fwd=stale") {
				t.Errorf("%s: %v", name, r.header)
			}
			time.Sleep(2 * time.Minute)
		})
	}
}

// TestCredentialOutlivesItsFirstCaller: getting a credential goes on when its first caller gives
// up, and has nothing of that caller's context.
func TestCredentialOutlivesItsFirstCaller(t *testing.T) {
	type key struct{}
	for _, at := range []azuretest.Endpoint{azuretest.IMDS, azuretest.Exchange} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			u := s.identity("team-a/api")
			open := make(chan struct{})
			s.Fail(at, azuretest.Fault{Times: 1, Do: func(w http.ResponseWriter, r *http.Request) {
				if r.Context().Value(key{}) != nil {
					t.Errorf("%s: the context is that of a request", at)
				}
				select {
				case <-open:
				case <-r.Context().Done():
					t.Errorf("%s: the call ended with its first caller", at)
				}
				s.Heal()
				s.ServeHTTP(w, r)
			}})
			ask := func(ctx context.Context) error {
				return second(u.Credential(context.WithValue(ctx, key{}, "a request's"), auth.Request{Rule: "r", Host: dev, Repository: "team-a/api"}))
			}
			first, leave := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := ask(first); err != context.Canceled {
					t.Errorf("%s: the caller that gave up: %v", at, err)
				}
			})
			synctest.Wait()
			wg.Go(func() {
				if err := ask(t.Context()); err != nil {
					t.Errorf("%s: the caller that stayed: %v", at, err)
				}
			})
			synctest.Wait()
			leave()
			synctest.Wait()
			close(open)
			wg.Wait()
			s.want("asked once, but for the fault", azuretest.Exchange, 1+s.extra(at, azuretest.Exchange), azuretest.IMDS, 1+s.extra(at, azuretest.IMDS))
		})
	}
}

// extra counts the call that a fault passed on.
func (s *scene) extra(at, e azuretest.Endpoint) int {
	if at == e {
		return 1
	}
	return 0
}

// TestClouds pulls in each cloud, which has its own authority, audience and login servers.
func TestClouds(t *testing.T) {
	for cloud, c := range map[azure.Cloud]struct{ host, authority string }{
		azure.Public:     {"dev.azurecr.io", "login.microsoftonline.com"},
		azure.China:      {"dev.azurecr.cn", "login.chinacloudapi.cn"},
		azure.Government: {"dev.azurecr.us", "login.microsoftonline.us"},
	} {
		s := newScene(t)
		o := s.options()
		o.Cloud = cloud
		ids, err := azure.NewIdentities(o)
		if err != nil {
			t.Fatal(err)
		}
		s.ids, s.registry = ids, s.NewRegistryIn(s.TenantID(), c.host)
		s.registry.Content.AddImage("team-a/api", "v1", upstreamtest.Layers(1, 100))
		app := s.NewServicePrincipal("")
		s.registry.Grant(app.PrincipalID, "team-a/api")
		sp, err := azure.NewServicePrincipal(o, s.TenantID(), app.ClientID, secretOf{app})
		if err != nil {
			t.Fatal(err)
		}
		for who, a := range map[string]auth.Authenticator{"identity": s.identity("team-a/api"), "principal": sp} {
			r, err := s.up.Open(upstream.Source{Rule: who, Host: c.host, Repository: "team-a/api"}, a)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := r.Manifest(t.Context(), "v1"); err != nil {
				t.Errorf("%s, %s: %v", cloud, who, err)
			}
		}
		for _, call := range s.Calls() {
			if call.Endpoint == azuretest.Entra && call.Host != c.authority || call.Endpoint == azuretest.V2 && call.Host != c.host {
				t.Errorf("%s: %s was asked", cloud, call.Host)
			}
		}
		s.want(string(cloud), azuretest.Exchange, 2, azuretest.IMDS, 1)
	}
}
