package upstream_test

import (
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// meter counts calls by rule, operation and class of failure, as a metrics library does.
type meter struct {
	mu    sync.Mutex
	calls map[string]int
}

func (m *meter) observe(c upstream.Call) {
	class, _ := upstream.ClassOf(c.Err) // empty if the upstream did not fail
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[fmt.Sprintf("rule=%s op=%s class=%q", c.Source.Rule, c.Op, class)]++
}

func ExampleClient_observe() {
	registry, err := upstreamtest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer registry.Close()
	registry.AddImage("team/app", "v1", nil)

	m := &meter{calls: map[string]int{}}
	client := &upstream.Client{
		Hosts:   map[string]upstream.Host{registry.Host(): {PlainHTTP: true}},
		Observe: m.observe,
	}
	r, err := client.Open(upstream.Source{Rule: "team", Host: registry.Host(), Repository: "team/app"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, tag := range []string{"v1", "v1", "v2"} {
		_, _, _ = r.Manifest(context.Background(), tag)
	}
	for what, n := range m.calls {
		fmt.Println(what, n)
	}
	// Unordered output:
	// rule=team op=manifest class="" 2
	// rule=team op=manifest class="not found" 1
}
