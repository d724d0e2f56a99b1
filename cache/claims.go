package cache

import (
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/oci"
)

// claims are what copies in progress rely on, so that eviction leaves it: what a copy has
// found stored is still there when its manifest is linked. It is safe for concurrent use.
type claims struct {
	mu    sync.Mutex // also held while something is evicted
	held  map[claim]int
	moved map[string][]string // tags that have moved since watch, by repository; nil if nobody watches
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
	for _, k := range all {
		if c.held[k]--; c.held[k] == 0 {
			delete(c.held, k)
		}
	}
}

// tagMoved notes that a tag has moved. It comes before the release of its copy.
func (c *claims) tagMoved(repository, tag string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moved != nil {
		c.moved[repository] = append(c.moved[repository], tag)
	}
}

// watch begins to note which tags move; unwatch ends it.
func (c *claims) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved = map[string][]string{}
}

func (c *claims) unwatch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved = nil
}
