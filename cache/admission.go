package cache

import (
	"context"
	"errors"
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
	ask     func(context.Context, Candidate) error // nil admits everything
	asking  ask.Group[holdKey, error]              // one question for all checks that see a tag move
	holds   *lru.Cache[holdKey, Hold]
	refused *lru.Cache[tagKey, refusedCandidate] // the last of each tag
}

// holdKey is a digest that a tag may not stand for yet.
type holdKey struct {
	tagKey
	digest digest.Digest
}

// refusedCandidate is a digest that was not admitted, and why.
type refusedCandidate struct {
	digest digest.Digest
	err    error
}

func newAdmission(admit func(context.Context, Candidate) error) *admission {
	return &admission{ask: admit, holds: lru.New[holdKey, Hold](4096), refused: lru.New[tagKey, refusedCandidate](4096)}
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
	// The question ends with ctx if the embedder lets it, and nobody leaves it behind.
	err, _ := a.asking.Share(context.WithoutCancel(ctx), k, func(context.Context) error { return a.ask(ctx, c) })
	var h *Hold
	if errors.As(err, &h) {
		a.holds.Put(k, *h, 1)
	}
	if err != nil {
		a.refused.Put(k.tagKey, refusedCandidate{man.Digest, err}, 1)
	} else {
		a.refused.Delete(k.tagKey)
	}
	return err
}

// refusedFor returns the last digest that was not admitted for a tag and has not been
// admitted since.
func (a *admission) refusedFor(r origin.Repo, tag string) (refusedCandidate, bool) {
	return a.refused.Get(tagKey{r.Name, tag})
}
