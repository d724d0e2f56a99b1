package admin_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// taker is a Copier that takes jobs and does none of them.
type taker struct{}

func (taker) Submit(context.Context, cache.Job) error { return nil }

// crowd returns a cache that knows many rules, repositories and copies.
func crowd(tb testing.TB, rules, repositories, copies int) (*cache.Cache, *rule.Set) {
	tb.Helper()
	up := upstreamtest.NewRegistry(tb)
	var list []rule.Rule
	for i := range rules {
		list = append(list, rule.Rule{Name: fmt.Sprintf("rule-%04d", i), Source: fmt.Sprintf("%s/r%04d/*", up.Host(), i), Target: fmt.Sprintf("r%04d/*", i)})
	}
	set, err := rule.NewSet(list...)
	if err != nil {
		tb.Fatal(err)
	}
	c := &cache.Cache{Rules: set, Store: &store.Mem{}, Upstream: up.Client(), Copier: taker{}}
	tb.Cleanup(func() { _ = c.Shutdown(context.Background()) })
	layers := upstreamtest.Layers(5, 100)
	for i := range copies {
		name := fmt.Sprintf("r%04d/app-%05d", i%rules, i%repositories)
		layers[0] = upstreamtest.Bytes(uint64(i), 100)
		up.AddImage(name, fmt.Sprint("v", i), layers)
		if _, _, err := c.Manifest(tb.Context(), name, fmt.Sprint("v", i)); err != nil {
			tb.Fatal(err)
		}
	}
	return c, set
}

func BenchmarkCopies(b *testing.B) {
	c, _ := crowd(b, 1000, 5000, 10000)
	if n := len(c.Copies()); n != 10000 {
		b.Fatal(n)
	}
	for b.Loop() {
		c.CopiesPage(cache.CopyFilter{})
	}
}
