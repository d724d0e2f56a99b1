package azure_test

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// wait makes the next request of a kind wait until it is released.
func (s *scene) wait(f upstreamtest.Fault, answer http.HandlerFunc) (reached chan struct{}, let func()) {
	reached, open := make(chan struct{}), make(chan struct{})
	f.Times, f.Do = 1, func(w http.ResponseWriter, r *http.Request) {
		close(reached)
		<-open
		answer(w, r)
	}
	s.registry.Content.Fail(f)
	return reached, sync.OnceFunc(func() { close(open) })
}

// swapTo replaces the rule's authenticator, and returns the secrets that must not be sent any
// more.
func (c *cached) swapTo(a auth.Authenticator) []azuretest.Secret {
	c.t.Helper()
	old, _ := swap{to: func(*scene) auth.Authenticator { return a }}.do(c)
	return old
}

// TestSwapWhileTagChecksWait: a tag check that waits for the one before it uses the
// authenticator that the rule has when it begins.
func TestSwapWhileTagChecksWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		a, b := s.identity("team-a/api"), s.identity()
		c := s.inMemory(promoteRule(a))
		reached, let := s.wait(upstreamtest.Fault{Kind: "manifest", Reference: "v1"}, http.NotFound)
		var wg sync.WaitGroup
		for range 2 { // one check runs, one waits
			wg.Go(func() { c.do("GET", manifests("promoted/api", "v1")) })
			<-reached
			synctest.Wait()
		}
		old := c.swapTo(b)
		wg.Go(func() { c.wantDenied("GET", manifests("promoted/api", "v1"), b.ResourceID()) })
		synctest.Wait()
		let()
		wg.Wait()
		s.wantUnused(old)
	})
}

// TestSwapWhileAManifestIsOnItsWay: a request that begins after the swap does not share the
// download of a manifest from before it.
func TestSwapWhileAManifestIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		a, b := s.identity("team-a/api"), s.identity()
		c := s.inMemory(promoteRule(a))
		reached, let := s.wait(upstreamtest.Fault{Kind: "manifest"}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", s.img.MediaType)
			_, _ = w.Write(s.img.Manifest)
		})
		var wg sync.WaitGroup
		wg.Go(func() { c.wantManifest("promoted/api", s.img.Digest.String(), s.img) })
		<-reached
		old := c.swapTo(b)
		wg.Go(func() { c.wantDenied("GET", manifests("promoted/api", s.img.Digest.String()), b.ResourceID()) })
		synctest.Wait()
		let()
		wg.Wait()
		s.wantUnused(old)
	})
}

// TestSwapBetweenTwoRequests: a tag check that takes two requests uses for each the
// authenticator that the rule has then.
func TestSwapBetweenTwoRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		a, b := s.identity("team-a/api"), s.identity("team-a/api")
		c := s.inMemory(promoteRule(a))
		c.pullImage("promoted/api", "v1", s.img)
		c.settle()
		moved := s.registry.Content.AddImage("team-a/api", "v1", upstreamtest.Layers(1, 200))
		reached, let := s.wait(upstreamtest.Fault{Method: "HEAD", Kind: "manifest"}, s.registry.Content.ServeHTTP)
		var wg sync.WaitGroup
		wg.Go(func() { c.wantManifest("promoted/api", "v1", moved) })
		<-reached
		old := c.swapTo(b)
		let()
		wg.Wait()
		c.settle()
		s.wantUnused(old)
		s.wantAsked(b.ResourceID())
	})
}

// TestSwapDuringACopy: a running copy uses the rule's present authenticator to find out whether
// it may link a layer of another repository.
func TestSwapDuringACopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		a, b, seed := s.identity("team-a/api"), s.identity("team-a/api"), s.identity("team-b/api")
		c := s.inMemory(promoteRule(a), rule.Rule{Name: "seed", Source: dev + "/team-b/api", Target: "seed/api", Auth: seed})
		layers := upstreamtest.Layers(6, 1000)
		c.pullImage("seed/api", "last", s.registry.Content.AddImage("team-b/api", "last", layers[5:]))
		c.settle()
		img := s.registry.Content.AddImage("team-a/api", "many", layers)
		var lets []func()
		for _, d := range []string{img.Config.Digest.String(), img.Layers[0].Digest.String(), img.Layers[1].Digest.String(), img.Layers[2].Digest.String()} {
			_, let := s.wait(upstreamtest.Fault{Method: "GET", Kind: "blob", Reference: d}, s.registry.Content.ServeHTTP)
			lets = append(lets, let)
		}
		c.wantManifest("promoted/api", "many", img)
		synctest.Wait() // the copy has as many downloads as it may
		old := c.swapTo(b)
		for _, let := range lets {
			let()
		}
		c.settle()
		s.wantUnused(old)
		s.wantAsked(b.ResourceID())
		s.Reset()
		c.pullImage("promoted/api", "many", img)
		s.want("everything is here", azuretest.Data, 0)
	})
}

// TestSwapAfterTrouble: a failure of the old authenticator does not count for the new one.
func TestSwapAfterTrouble(t *testing.T) {
	for at, fault := range map[azuretest.Endpoint]azuretest.Fault{
		azuretest.V2:   {Status: http.StatusTooManyRequests, RetryAfter: "300", Times: 1},
		azuretest.IMDS: {Status: http.StatusTooManyRequests, RetryAfter: "300", Times: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			a, b, d := s.identity("team-a/api"), s.identity("team-a/api"), s.identity("team-a/api")
			c := s.inMemory(promoteRule(a))
			c.pullImage("promoted/api", "v1", s.img)
			c.settle()
			s.Fail(at, fault)
			c.swapTo(b)
			if r := c.wantManifest("promoted/api", "v1", s.img); r.header.Get("Cache-Status") == "pullthrough; fwd=request; fwd-status=200; detail=unchanged" {
				t.Fatalf("%s: no trouble", at)
			}
			c.swapTo(d)
			if r := c.wantManifest("promoted/api", "v1", s.img); s.Count(azuretest.V2) == 0 {
				t.Errorf("%s: the new one is not tried: %s", at, r.header.Get("Cache-Status"))
			}
		})
	}
}
