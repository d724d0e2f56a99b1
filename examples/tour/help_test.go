package tour

import (
	"context"
	"testing"

	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"

	"github.com/pullthrough/pullthrough/cache"
)

// pull pulls an image by its tag, as a client does, and waits until it is copied.
func pull(t *testing.T, c *cache.Cache, repository, tag string) {
	t.Helper()
	if _, err := oras.Copy(t.Context(), c.Repository(repository), tag, memory.New(), tag, oras.DefaultCopyOptions); err != nil {
		t.Fatal(err)
	}
	if err := c.Idle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// end ends a cache that cachetest.New did not make.
func end(t *testing.T, c *cache.Cache) {
	t.Helper()
	if err := c.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}
