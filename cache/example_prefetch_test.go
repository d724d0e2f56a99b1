package cache_test

import (
	"context"
	"fmt"
	"log"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// Prefetch copies an image before anybody pulls it, here one platform of an index. What
// it copied is served with the upstream gone.
func ExampleCache_Prefetch() {
	c, up, end := exampleCache()
	defer end()
	up.AddMultiPlatform("team/tool", "v2", upstreamtest.Layers(2, 1000), "amd64", "arm64")

	var copied, size int64
	err := c.Prefetch(context.Background(), "app/tool", "v2", cache.PrefetchOptions{
		Platforms: []string{"linux/arm64"},
		Progress:  func(done, total int64) { copied, size = done, total },
	})
	fmt.Println(err, copied > 2000, copied == size)

	up.Stop()
	_, manifest, err := c.Manifest(context.Background(), "app/tool", "v2")
	fmt.Println(len(manifest) > 0, err)
	// Output:
	// <nil> true true
	// true <nil>
}

// Explain says what a pull would do now and why, without asking the upstream.
func ExampleCache_Explain() {
	c, up, end := exampleCache()
	defer end()
	ctx := context.Background()

	x, err := c.Explain(ctx, "app/api", "v1")
	fmt.Println(x.Rule, x.Source.Repository, x.Stored, err)
	if err := c.Prefetch(ctx, "app/api", "v1", cache.PrefetchOptions{}); err != nil {
		log.Fatal(err)
	}
	up.Stop()
	if _, err := c.Resolve(ctx, "app/api", "v1"); err != nil { // served without a check
		log.Fatal(err)
	}
	x, err = c.Explain(ctx, "app/api", "v1")
	fmt.Println(x.Stored, x.Copy == nil, x.Trouble != nil, err)
	// Output:
	// team team/api false <nil>
	// true true true <nil>
}
