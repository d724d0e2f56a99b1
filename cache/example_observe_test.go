package cache_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/pullthrough/pullthrough/cache"
)

// Observe is where metrics and access logs begin: it is called for each answer, and
// says where that came from.
func ExampleCache_observe() {
	c, _, end := exampleCache()
	defer end()
	c.Observe = func(r *http.Request, o cache.Outcome) {
		fmt.Println(o.Method, o.Access.Repository, o.Reference, o.Status, o.Result)
	}
	printGet(c, "/v2/app/api/manifests/v1", "", "")
	if err := c.Prefetch(context.Background(), "app/api", "v1", cache.PrefetchOptions{}); err != nil {
		log.Fatal(err)
	}
	printGet(c, "/v2/app/api/manifests/v1", "", "")
	// Output:
	// GET app/api v1 200 miss
	// 200 /v2/app/api/manifests/v1
	// GET app/api v1 200 checked
	// 200 /v2/app/api/manifests/v1
}
