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

// manifests is one warm manifest for 64 connections: by tag while the tag is asked about,
// by digest, and by tag in a window.
func manifests() Work {
	return Work{Name: "manifests", Peers: servers(peer.BareAsking), prepare: func(s Sizes, c *registry.Catalog, _ string) (measure, error) {
		img := c.Layered("b/manifests", 8, 1<<10)
		images := parts([]registry.Image{img})
		const conns = 64
		// ask asks again and again, after a while that counts for nothing.
		ask := func(ctx context.Context, r *round, how string, p registry.Part) error {
			if _, _, err := load.Rate(ctx, r.addr, p.Path, img.Manifest, conns, s.Time/5); err != nil {
				return err
			}
			var n int64
			var took time.Duration
			used, err := r.cpu(ctx, func() (err error) {
				n, took, err = load.Rate(ctx, r.addr, p.Path, img.Manifest, conns, s.Time)
				return err
			})
			if err != nil {
				return err
			}
			name := fmt.Sprintf("manifest %s, %d connections", how, conns)
			r.higher(name, "GET/s", float64(n)/took.Seconds())
			r.lower(name, "CPU us/GET", float64(used.Microseconds())/float64(n))
			return nil
		}
		return func(ctx context.Context, r *round) error {
			if err := r.start(ctx, false); err != nil {
				return err
			}
			if _, err := load.Storm(ctx, r.addr, images, 1); err != nil {
				return err
			}
			if _, err := r.cpu(ctx, func() error { return nil }); err != nil { // the copy behind the pull
				return err
			}
			r.up.Reset()
			if err := ask(ctx, r, "by tag, asking", img.ByTag); err != nil {
				return err
			}
			if err := r.wantAsked(1, math.MaxInt); err != nil {
				return err
			}
			r.up.Reset()
			if err := ask(ctx, r, "by digest", img.ByDigest); err != nil {
				return err
			}
			if err := r.wantAsked(0, 0); err != nil {
				return err
			}
			if err := r.window(ctx, images, 1); err != nil {
				return err
			}
			if err := ask(ctx, r, "by tag, in a window", img.ByTag); err != nil {
				return err
			}
			return r.wantAsked(0, 0)
		}, nil
	}}
}
