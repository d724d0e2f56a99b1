package work

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/load"
	"github.com/pullthrough/pullthrough/internal/bench/peer"
	"github.com/pullthrough/pullthrough/internal/bench/registry"
)

const workers = 32

// storm is many tiny images for 32 workers: cold, warm while each tag is asked about, and
// warm in a window in which none is.
func storm() Work {
	return Work{Name: "storm", Peers: servers(peer.BareAsking), prepare: func(s Sizes, c *registry.Catalog, _ string) (measure, error) {
		images := parts(c.Tiny("storm", 0, s.Images))
		name := fmt.Sprintf("%d tiny images, %d workers, ", s.Images, workers)
		return func(ctx context.Context, r *round) error {
			if err := r.start(ctx, false); err != nil {
				return err
			}
			if err := r.storm(ctx, name+"cold", images); err != nil {
				return err
			}
			r.up.Reset()
			if err := r.storm(ctx, name+"warm, asking", images); err != nil {
				return err
			}
			if err := r.wantAsked(len(images), math.MaxInt); err != nil {
				return err
			}
			if err := r.window(ctx, images, workers); err != nil {
				return err
			}
			if err := r.storm(ctx, name+"warm, in a window", images); err != nil {
				return err
			}
			if err := r.wantAsked(0, 0); err != nil {
				return err
			}
			return r.wantCached()
		}, nil
	}}
}

// storm pulls all images and notes their rate.
func (r *round) storm(ctx context.Context, name string, images [][]registry.Part) error {
	var took time.Duration
	used, err := r.cpu(ctx, func() (err error) {
		took, err = load.Storm(ctx, r.addr, images, workers)
		return err
	})
	if err != nil {
		return err
	}
	n := float64(len(images))
	r.higher(name, "images/s", n/took.Seconds())
	r.lower(name, "CPU ms/image", ms(used)/n)
	return nil
}

// parts returns what is pulled of each image.
func parts(images []registry.Image) [][]registry.Part {
	all := make([][]registry.Part, len(images))
	for i, img := range images {
		all[i] = img.Parts()
	}
	return all
}
