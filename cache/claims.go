package cache

import (
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/oci"
)

// claims are what copies in progress rely on, so that eviction leaves it: what a copy has
// found stored is still there when its manifest is linked. A pass of eviction does not see
// what is linked after it has looked, so a claim that ends meanwhile is held until the pass
// has ended. It is safe for concurrent use.
type claims struct {
	mu    sync.Mutex // also held while something is evicted
	held  map[claim]int
	pass  bool    // a pass is under way
	ended []claim // during the pass
}

// claim is content in a repository.
type claim struct {
	repository string
	digest     digest.Digest
}

// claim claims a manifest and all that it names, until release is called. It comes
// before the copy looks at what is stored.
func (c *claims) claim(repository string, man *oci.Content) (release func()) {
	all := []claim{{repository, man.Digest}}
	for _, d := range man.Parsed.Blobs() {
		all = append(all, claim{repository, d.Digest})
	}
	for _, d := range man.Parsed.Children() {
		all = append(all, claim{repository, d.Digest})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[claim]int{}
	}
	for _, k := range all {
		c.held[k]++
	}
	return func() { c.release(all) }
}

func (c *claims) release(all []claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pass {
		c.ended = append(c.ended, all...)
		return
	}
	c.drop(all)
}

// drop ends claims. c.mu is held.
func (c *claims) drop(all []claim) {
	for _, k := range all {
		if c.held[k]--; c.held[k] == 0 {
			delete(c.held, k)
		}
	}
}

// begin begins a pass of eviction, before it looks at what is stored; end ends it.
func (c *claims) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pass = true
}

func (c *claims) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.ended)
	c.pass, c.ended = false, nil
}
