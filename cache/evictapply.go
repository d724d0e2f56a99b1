package cache

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/pullthrough/pullthrough/internal/evict"
	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/store"
)

// evictAtOnce is how many images go in one change, so that a copy that ends meanwhile
// does not wait for long.
const evictAtOnce = 128

// carryOut gives up what a plan says, and adds to gone what that was.
func (v *evictor) carryOut(ctx context.Context, s *scan, plan evict.Plan, gone *Evicted) error {
	c := &carrier{evictor: v, scan: s, tags: map[string]map[digest.Digest][]string{}}
	for len(plan.Steps) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, images := 0, 0
		for n < len(plan.Steps) && (n == 0 || images+len(plan.Steps[n].Images) <= evictAtOnce) {
			images += len(plan.Steps[n].Images)
			n++
		}
		if err := c.carry(ctx, plan.Steps[:n], gone); err != nil {
			return err
		}
		plan.Steps = plan.Steps[n:]
	}
	if c.unsafe > 0 {
		gone.Unmet = append(gone.Unmet, fmt.Sprintf("%d images stay near, since the far store does not have them or does not answer", c.unsafe))
	}
	return nil
}

// carrier carries out one plan.
type carrier struct {
	*evictor
	*scan
	tags   map[string]map[digest.Digest][]string // by repository and digest, as they are needed
	unsafe int                                   // images that only the near store is known to have
}

// carry gives up the images of some steps as one change. A step that has an image on
// which a copy relies stays.
func (c *carrier) carry(ctx context.Context, steps []evict.Step, gone *Evicted) error {
	names := map[claim][]digest.Digest{} // the blobs that each image names
	for _, s := range steps {
		for _, i := range s.Images {
			if err := c.listTags(ctx, i.Repository); err != nil {
				return err
			}
			man, err := c.read(ctx, i.Repository, i.Digest)
			if err != nil {
				return err
			}
			if man != nil {
				for _, b := range man.Parsed.Blobs() {
					names[claim{i.Repository, i.Digest}] = append(names[claim{i.Repository, i.Digest}], b.Digest)
				}
			}
		}
	}
	lacks, err := c.unbacked(ctx, steps)
	if err != nil {
		return err
	}
	held := &c.local.claims
	held.mu.Lock()
	defer held.mu.Unlock()
	batch := &store.Batch{}
	var victims []evict.Victim
	var freed int64
	for _, s := range steps {
		if slices.ContainsFunc(s.Images, func(i evict.Victim) bool {
			return held.held[claim{i.Repository, i.Digest}] > 0 || lacks[claim{i.Repository, i.Digest}]
		}) {
			continue
		}
		for _, i := range s.Images {
			victims = append(victims, i)
			c.add(batch, i, names[claim{i.Repository, i.Digest}])
		}
		freed += s.Freed
	}
	if len(victims) == 0 {
		return nil
	}
	err = c.local.evict(ctx, batch.Deletions)
	c.local.evicted(batch, victims)
	if err != nil {
		return err
	}
	c.ghosts.Evicted(c.graph.Len(), victims...)
	gone.Images += len(victims)
	gone.Bytes += freed
	c.images.Add(int64(len(victims)))
	c.bytes.Add(freed)
	return nil
}

// backedAtOnce is how many images are looked up at once.
const backedAtOnce = 8

// unbacked returns those images of some steps that the near store must keep, since they
// are not known to be anywhere else.
func (c *carrier) unbacked(ctx context.Context, steps []evict.Step) (map[claim]bool, error) {
	lacks := map[claim]bool{}
	if c.local.tiered == nil {
		return lacks, nil
	}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(backedAtOnce)
	for _, s := range steps {
		for _, i := range s.Images {
			g.Go(func() error {
				has, err := c.local.tiered.Backed(ctx, i.Repository, i.Digest)
				if err == nil && has {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				lacks[claim{i.Repository, i.Digest}] = true
				c.unsafe++
				return ctx.Err()
			})
		}
	}
	return lacks, g.Wait()
}

// listTags notes the tags of a repository, unless they are known. One that moves later
// points to what its copy claims until the end of the pass.
func (c *carrier) listTags(ctx context.Context, repo string) error {
	if _, ok := c.tags[repo]; ok {
		return nil
	}
	lister, ok := store.As[store.Lister](c.local.near)
	if !ok {
		return nil
	}
	tags := map[digest.Digest][]string{}
	for name, err := range lister.TagNames(ctx, repo, "") {
		if err != nil {
			return err
		}
		if t, err := c.local.near.Tag(ctx, repo, name); err == nil {
			tags[t.Digest] = append(tags[t.Digest], name)
		}
	}
	c.tags[repo] = tags
	return nil
}

// add adds to a batch what goes with an image: its tags first, so that none points to
// nothing if the store makes the changes one by one. claims.mu is held.
func (c *carrier) add(b *store.Batch, i evict.Victim, blobs []digest.Digest) {
	for _, tag := range c.tags[i.Repository][i.Digest] {
		b.Deletions = append(b.Deletions, store.Deletion{Repo: i.Repository, Tag: tag, Digest: i.Digest})
	}
	b.Deletions = append(b.Deletions, store.Deletion{Repo: i.Repository, Digest: i.Digest})
	for _, d := range blobs {
		k := newBlobOf(i.Repository, d)
		used := c.scan.busy[claim{i.Repository, d}] || c.local.claims.held[claim{i.Repository, d}] > 0
		if c.links[k]--; c.links[k] == 0 && !used {
			b.Deletions = append(b.Deletions, store.Deletion{Repo: i.Repository, Digest: d})
		}
	}
}

// evicted forgets what is remembered of images that were given up.
func (l *local) evicted(b *store.Batch, victims []evict.Victim) {
	for _, i := range victims {
		l.manifests.Delete(ledger.Key{Repository: i.Repository, Digest: i.Digest})
	}
	for _, d := range b.Deletions {
		if d.Tag != "" {
			l.tags.Delete(tagKey{d.Repo, d.Tag})
		}
	}
	l.deleted.era.Add(1)
}
