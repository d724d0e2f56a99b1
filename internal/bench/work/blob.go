package work

import (
	"context"
	"fmt"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/load"
	"github.com/pullthrough/pullthrough/internal/bench/registry"
)

// blob is a large blob for one client: cold, and then warm.
func blob() Work {
	return Work{Name: "blob", Peers: servers(), prepare: func(s Sizes, c *registry.Catalog, folder string) (measure, error) {
		img, err := c.Large(folder, "b/large", s.Blob)
		if err != nil {
			return nil, err
		}
		layer := img.Layers[0]
		cold := fmt.Sprintf("cold %s, 1 client", size(s.Blob))
		warm := fmt.Sprintf("warm %s, 1 client", size(s.Blob))
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
			r.higher(cold, "MiB/s", rate(s.Blob, t.Whole))
			r.lower(cold, "CPU s/GiB", used.Seconds()/gibs(s.Blob))
			// The pull that checks the digest comes before the warm ones also since
			// distribution may not have stored the blob yet when its first client has it.
			if _, err := r.cpu(ctx, func() error { return load.Verify(ctx, r.addr, layer) }); err != nil {
				return err
			}
			r.up.Reset()
			var took time.Duration
			used, err = r.cpu(ctx, func() error {
				for range s.Passes {
					t, err := load.Pull(ctx, r.addr, layer)
					if err != nil {
						return err
					}
					took += t.Whole
				}
				return nil
			})
			if err != nil {
				return err
			}
			all := int64(s.Passes) * s.Blob
			r.higher(warm, "MiB/s", rate(all, took))
			r.lower(warm, "CPU s/GiB", used.Seconds()/gibs(all))
			return r.wantCached()
		}, nil
	}}
}

// fan is a cold blob for many clients at once.
func fan() Work {
	return Work{Name: "fan", Peers: servers(), prepare: func(s Sizes, c *registry.Catalog, folder string) (measure, error) {
		img, err := c.Large(folder, "b/fan", s.Fan)
		if err != nil {
			return nil, err
		}
		const clients = 16
		layer := img.Layers[0]
		name := fmt.Sprintf("cold %s, %d clients at once", size(s.Fan), clients)
		return func(ctx context.Context, r *round) error {
			if err := r.start(ctx, false); err != nil {
				return err
			}
			var t load.Times
			used, err := r.cpu(ctx, func() (err error) {
				t, err = load.Together(ctx, r.addr, img.Parts(), clients)
				return err
			})
			if err != nil {
				return err
			}
			r.higher(name, "MiB/s of all", rate(clients*s.Fan, t.Whole))
			r.lower(name, "first byte ms, median", ms(t.FirstByte))
			r.lower(name, "CPU s/GiB served", used.Seconds()/gibs(clients*s.Fan))
			return load.Verify(ctx, r.addr, layer)
		}, nil
	}}
}

func rate(bytes int64, took time.Duration) float64 { return float64(bytes) / mib / took.Seconds() }
func gibs(bytes int64) float64                     { return float64(bytes) / gib }
func ms(d time.Duration) float64                   { return d.Seconds() * 1e3 }
