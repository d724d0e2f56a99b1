package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ask"
	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
)

// admission asks the embedder whether a tag may stand for a digest, and remembers what
// it did not admit. It is safe for concurrent use.
type admission struct {
	ask    func(context.Context, Candidate) error // nil admits everything
	held   func(Candidate, error)                 // Cache.Held; may be nil
	asking ask.Group[holdKey, error]              // one question for all checks that see a tag move
	holds  *lru.Cache[holdKey, Hold]
	last   *lru.Cache[tagKey, HeldTag] // what was not admitted last of each tag

	mu       sync.Mutex
	deciding map[tagKey]int // how many callers wait for Admit
}

// holdKey is a digest that a tag may not stand for yet.
type holdKey struct {
	tagKey
	digest digest.Digest
}

func newAdmission(c *Cache) *admission {
	return &admission{ask: c.Admit, held: c.Held, holds: lru.New[holdKey, Hold](4096), last: lru.New[tagKey, HeldTag](4096), deciding: map[tagKey]int{}}
}

// admit returns why a tag may not stand for a manifest now, or nil. former returns what
// the tag stands for, nil if it stands for nothing; it is called if somebody asks.
func (a *admission) admit(ctx context.Context, r origin.Repo, tag string, man *oci.Content, former func() *oci.Content) error {
	if a.ask == nil {
		return nil
	}
	k := holdKey{tagKey{r.Name, tag}, man.Digest}
	if h, ok := a.holds.Get(k); ok && time.Now().Before(h.Until) {
		return &h
	}
	c := Candidate{Repository: r.Name, Tag: tag, Descriptor: man.Descriptor, Manifest: man.Body, Source: r.Match.Source}
	if f := former(); f != nil {
		c.Former = f.Digest
	}
	defer a.decide(k.tagKey)()
	// The question ends with ctx if the embedder lets it, and nobody leaves it behind.
	err, _ := a.asking.Share(context.WithoutCancel(ctx), k, func(context.Context) error { return a.ask(ctx, c) })
	var h *Hold
	if errors.As(err, &h) {
		a.holds.Put(k, *h, 1)
	}
	if err != nil {
		a.refuse(c, err)
	} else {
		a.settle(k.tagKey)
	}
	return err
}

// decide notes that the embedder is asked about a tag, until done is called.
func (a *admission) decide(k tagKey) (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deciding[k]++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.deciding[k]--; a.deciding[k] == 0 {
			delete(a.deciding, k)
		}
	}
}

// decides reports whether the embedder is being asked about a tag.
func (a *admission) decides(r origin.Repo, tag string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.deciding[tagKey{r.Name, tag}] > 0
}

// refuse remembers what was not admitted, and calls the hook if it is new.
func (a *admission) refuse(c Candidate, err error) {
	t := HeldTag{Repository: c.Repository, Tag: c.Tag, Digest: c.Digest, Former: c.Former, Source: c.Source, Since: time.Now(), Err: err}
	if h, ok := errors.AsType[*Hold](err); ok {
		t.Until = h.Until
	}
	known := false
	a.last.Update(tagKey{c.Repository, c.Tag}, func(old HeldTag, ok bool) (HeldTag, int64, bool) {
		if ok && old.Digest == t.Digest {
			t.Since, known = old.Since, reason(old.Err) == reason(err)
		}
		return t, 1, true
	})
	if !known && a.held != nil {
		a.held(c, err)
	}
}

// reason is why a digest was not admitted, without a time.
func reason(err error) string {
	if h, ok := errors.AsType[*Hold](err); ok {
		return h.Reason
	}
	return err.Error()
}

// settle notes that nothing is held of a tag any more.
func (a *admission) settle(k tagKey) {
	if !a.last.Empty() {
		a.last.Delete(k)
	}
}

// heldOf returns the last digest that was not admitted for a tag and has not been
// admitted since.
func (a *admission) heldOf(r origin.Repo, tag string) (HeldTag, bool) {
	return a.last.Get(tagKey{r.Name, tag})
}
