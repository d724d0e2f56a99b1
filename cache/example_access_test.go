package cache_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/cache"
)

// authorize lets Alice pull, and nobody else. Before it knows who asks it says how to
// prove that.
func authorize(r *http.Request, a cache.Access) error {
	user, password, ok := r.BasicAuth()
	switch {
	case !ok || user != "alice" || password != "secret":
		return &cache.Challenge{Header: `Basic realm="images"`}
	case a.Kind == cache.AccessPing:
		return nil // Alice has logged in
	case !slices.Equal(a.Actions, []string{cache.ActionPull}):
		return errors.New("read only")
	case !strings.HasPrefix(a.Repository, "app/") && !strings.HasPrefix(a.Repository, "own/"):
		return errors.New("none of Alice's repositories")
	}
	return nil
}

// Authorize decides about every request by the canonical name of its repository. A
// Challenge makes a client log in.
func ExampleCache_authorize() {
	c, _, end := exampleCache()
	defer end()
	c.Authorize = authorize

	header := printGet(c, "/v2/", "", "")
	fmt.Println(header.Get("WWW-Authenticate"))
	printGet(c, "/v2/", "alice", "secret")
	printGet(c, "/v2/app/api/manifests/v1", "alice", "secret")
	printGet(c, "/v2/other/api/manifests/v1", "alice", "secret")
	// Output:
	// 401 /v2/
	// Basic realm="images"
	// 200 /v2/
	// 200 /v2/app/api/manifests/v1
	// 403 /v2/other/api/manifests/v1
}

// A registry of one's own answers what no rule covers. Guard has it behind the same gate.
func ExampleGuard() {
	c, _, end := exampleCache()
	defer end()
	own := http.NewServeMux()
	own.HandleFunc("GET /v2/own/tool/manifests/v1", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("my registry answers")
	})
	c.Authorize = authorize
	c.Next = cache.Guard(authorize, own)

	printGet(c, "/v2/own/tool/manifests/v1", "", "")
	printGet(c, "/v2/own/tool/manifests/v1", "alice", "secret")
	printGet(c, "/v2/app/api/manifests/v1", "alice", "secret")
	// Output:
	// 401 /v2/own/tool/manifests/v1
	// my registry answers
	// 200 /v2/own/tool/manifests/v1
	// 200 /v2/app/api/manifests/v1
}
