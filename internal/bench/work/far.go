package work

import (
	"context"
	"fmt"

	"github.com/pullthrough/pullthrough/internal/bench/load"
	"github.com/pullthrough/pullthrough/internal/bench/peer"
	"github.com/pullthrough/pullthrough/internal/bench/registry"
)

// far is a cold blob from a registry that is far away and bounds each connection, also
// straight from there.
func far() Work {
	all := []string{peer.Cache, peer.Nginx, peer.Varnish, peer.Distribution, peer.Direct}
	return Work{Name: "far", Far: true, Peers: all, prepare: func(s Sizes, c *registry.Catalog, folder string) (measure, error) {
		img, err := c.Large(folder, "b/far", s.Far)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("cold %s from %v away at %s/s a connection", size(s.Far), s.Link.Delay, size(s.Link.Rate))
		return func(ctx context.Context, r *round) error {
			if err := r.start(ctx, false); err != nil {
				return err
			}
			var t load.Times
			used, err := r.cpu(ctx, func() (err error) {
				t, err = load.Pull(ctx, r.addr, img.Parts()...)
				return err
			})
			if err != nil {
				return err
			}
			r.higher(name, "MiB/s", rate(s.Far, t.Whole))
			r.lower(name, "first byte ms", ms(t.FirstByte))
			if r.process == nil {
				return nil // a second pull would take as long
			}
			r.lower(name, "CPU s/GiB", used.Seconds()/gibs(s.Far))
			return load.Verify(ctx, r.addr, img.Layers[0])
		}, nil
	}}
}
