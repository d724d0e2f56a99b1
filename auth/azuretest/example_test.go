package azuretest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// A program that pulls from one Azure Container Registry into a cache with a managed
// identity is tested through the SDK and with production names. A test passes its testing.T
// to New and fails if a secret is sent where it must not be; an example has none, and looks
// at Complaints.
func Example() {
	az := azuretest.New(nil)
	defer az.Close()
	dev, id := az.NewRegistry("devregistry"), az.NewIdentity("promote")
	img := dev.Content.AddImage("team-a/api", "1.4.0", upstreamtest.Layers(3, 100<<10))

	// The program in production differs only in the clients.
	identities, err := azure.NewIdentities(azure.Options{TenantID: az.TenantID(), Client: az.Client(), ManagedIdentity: az.ManagedIdentityClient()}, id.ResourceID)
	if err != nil {
		fmt.Println(err)
		return
	}
	uami, err := identities.UserAssigned(id.ResourceID)
	if err != nil {
		fmt.Println(err)
		return
	}
	rules, err := rule.NewSet(rule.Rule{Name: "promote-api", Source: "devregistry.azurecr.io/team-a/api", Target: "promoted/team-a/api", Auth: uami})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	c := &cache.Cache{Rules: rules, Upstream: &upstream.Client{Transport: az.Transport()}}
	defer func() { _ = c.Shutdown(ctx) }()

	// Without a role at the source the pull is refused; with a role the image is copied.
	_, _, err = c.Manifest(ctx, "promoted/team-a/api", "1.4.0")
	denied, _ := errors.AsType[*cache.Error](err)
	fmt.Println("no role:", denied.Status, denied.Code)
	dev.Grant(id.PrincipalID, "team-a/api")
	fmt.Println("a role:", c.Prefetch(ctx, "promoted/team-a/api", "1.4.0", cache.PrefetchOptions{}))

	// From now on a pull costs one HEAD request.
	az.Reset()
	desc, _, err := c.Manifest(ctx, "promoted/team-a/api", "1.4.0")
	fmt.Println("again:", desc.Digest == img.Digest, err)
	for _, call := range az.Calls() {
		fmt.Println(call.Method, call.Host+call.URL.Path, call.Status)
	}

	// The identity is detached from the machine; the stored image is still served.
	id.Detach()
	id.RevokeTokens()
	dev.ForgetTokens()
	_, _, err = c.Manifest(ctx, "promoted/team-a/api", "1.4.0")
	fmt.Println("detached:", err)
	fmt.Println("complaints:", az.Complaints())
	// Output:
	// no role: 403 DENIED
	// a role: <nil>
	// again: true <nil>
	// HEAD devregistry.azurecr.io/v2/team-a/api/manifests/1.4.0 200
	// detached: <nil>
	// complaints: []
}
