package cache_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// A scanner sees each digest before a tag stands for it. Until it has looked, the tag
// stands for the former one.
func ExampleCache_admit() {
	c, up, end := exampleCache()
	defer end()
	ctx := context.Background()
	c.Admit = func(_ context.Context, candidate cache.Candidate) error {
		if candidate.Former == "" {
			return nil // the first image of a tag is not held
		}
		return &cache.Hold{Until: time.Now().Add(time.Hour), Reason: "the scan is not over"}
	}
	if err := c.Prefetch(ctx, "app/api", "v1", cache.PrefetchOptions{}); err != nil {
		log.Fatal(err)
	}
	before, err := c.Resolve(ctx, "app/api", "v1")
	if err != nil {
		log.Fatal(err)
	}

	moved := up.AddImage("team/api", "v1", upstreamtest.Layers(2, 2000)) // the tag moves upstream
	after, err := c.Resolve(ctx, "app/api", "v1")
	fmt.Println("the former image:", after.Digest == before.Digest, err)
	x, err := c.Explain(ctx, "app/api", "v1")
	var hold *cache.Hold
	fmt.Println("held:", x.Held == moved.Digest, errors.As(x.HeldErr, &hold), err)
	fmt.Println(hold.Reason)
	// Output:
	// the former image: true <nil>
	// held: true true <nil>
	// the scan is not over
}
