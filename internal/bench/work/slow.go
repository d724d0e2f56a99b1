package work

import (
	"context"
	"fmt"

	"github.com/pullthrough/pullthrough/internal/bench/load"
	"github.com/pullthrough/pullthrough/internal/bench/proc"
	"github.com/pullthrough/pullthrough/internal/bench/registry"
)

// slow is what memory a server has while many slow clients read a blob that was cold when
// they came.
func slow() Work {
	return Work{Name: "slow", Peers: servers(), prepare: func(s Sizes, c *registry.Catalog, folder string) (measure, error) {
		img, err := c.Large(folder, "b/slow", s.Fan)
		if err != nil {
			return nil, err
		}
		layer := img.Layers[0]
		name := fmt.Sprintf("%d slow clients of a cold %s", s.Slow, size(s.Fan))
		return func(ctx context.Context, r *round) error {
			if err := r.start(ctx, false); err != nil {
				return err
			}
			if err := r.named(ctx, img); err != nil {
				return err
			}
			var m proc.Memory
			first, err := load.Slow(ctx, r.addr, layer, s.Slow, s.SlowTime, func() (err error) {
				m, err = r.process.Memory()
				return err
			})
			if err != nil {
				return err
			}
			r.lower(name, "RSS MiB", float64(m.RSS)/mib)
			r.lower(name, "anonymous MiB", float64(m.Anonymous)/mib)
			r.lower(name, "first byte ms, median", ms(first))
			return load.Verify(ctx, r.addr, layer)
		}, nil
	}}
}

// named pulls the manifest and config of an image, as clients do before the layers.
func (r *round) named(ctx context.Context, img registry.Image) error {
	for _, p := range []registry.Part{img.ByTag, img.Config} {
		if err := load.Verify(ctx, r.addr, p); err != nil {
			return err
		}
	}
	return nil
}
