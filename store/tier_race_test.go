package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// Two replicas read, copy, delete and evict at once. No wrong byte is read, and what Far
// has as a manifest it has whole.
func TestTiersAtOnce(t *testing.T) {
	far := new(store.Mem)
	var images []tierImage
	for i := range 4 {
		images = append(images, newImage([]string{"a", "b"}[i%2], fmt.Sprint("image", i/2), 3))
	}
	var replicas []*store.Tier
	for range 2 {
		replicas = append(replicas, newPatientTier(t, new(store.Mem), far))
	}
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(w)))
			for range 150 {
				s, img := replicas[rnd.IntN(2)], images[rnd.IntN(len(images))]
				if err := step(t, s, img, rnd.IntN(10)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for _, s := range replicas {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, img := range images {
			putImage(t, s, img)
			wantIn(t, "far", far, img)
		}
	}
}

// step does one thing to an image.
func step(t *testing.T, s *store.Tier, img tierImage, what int) error {
	ctx, repo, d := t.Context(), img.manifest.Repo, img.manifest.Info.Digest
	switch what {
	case 0:
		return s.Delete(ctx, repo, d)
	case 1:
		return s.DeleteTag(ctx, repo, "v1")
	case 2:
		return s.Forget(ctx, repo, []string{"", "v1", d.String()}[rand.IntN(3)])
	case 3:
		return s.NearStore().(*store.Mem).Delete(ctx, repo, img.blobs[rand.IntN(4)].Info.Digest)
	case 4:
		tag := img.tag()
		tag.Asked = time.Now()
		if err := s.SetTag(ctx, repo, "v1", tag); !errors.Is(err, store.ErrStale) {
			return err
		}
	case 5, 6:
		for _, p := range img.all() {
			// A blob that eviction takes between the two is missed by the manifest.
			if err := putPiece(ctx, s, p); err != nil && !p.Info.IsManifest() {
				return err
			}
		}
	default:
		for _, p := range img.all() {
			if err := readsPiece(ctx, s, p); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}
