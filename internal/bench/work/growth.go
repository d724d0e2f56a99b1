package work

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/load"
	"github.com/pullthrough/pullthrough/internal/bench/peer"
	"github.com/pullthrough/pullthrough/internal/bench/registry"
)

// growth is what more and more images cost: after each restart the time until the first
// answer, those of tags and digests at random, and the memory. Varnish would forget all
// at the restart, and distribution would take hours.
func growth() Work {
	return Work{Name: "growth", Once: true, Peers: []string{peer.Cache, peer.Nginx}, prepare: func(s Sizes, c *registry.Catalog, _ string) (measure, error) {
		var images []registry.Image
		for _, n := range s.Growth {
			if n <= len(images) {
				return nil, fmt.Errorf("%d images are not more than the %d before", n, len(images))
			}
			images = append(images, c.Tiny("growth", len(images), n)...)
		}
		return func(ctx context.Context, r *round) error {
			if err := r.start(ctx, false); err != nil {
				return err
			}
			var first, last []float64
			have := 0
			for i, n := range s.Growth {
				if err := r.grow(ctx, images[have:n], have); err != nil {
					return err
				}
				have = n
				now, err := r.look(ctx, images[:n])
				if err != nil {
					return err
				}
				r.noteState(fmt.Sprintf("%d tiny images stored", n), now)
				if last = now; i == 0 {
					first = now
				}
			}
			if len(s.Growth) > 1 {
				r.noteGrowth(fmt.Sprintf("%d tiny images against %d", have, s.Growth[0]), first, last)
			}
			return nil
		}, nil
	}}
}

// grow pulls images, and waits until they are stored.
func (r *round) grow(ctx context.Context, images []registry.Image, have int) error {
	const step = 5000
	for done := 0; done < len(images); done += step {
		some := images[done:min(done+step, len(images))]
		_, err := r.cpu(ctx, func() error {
			_, err := load.Storm(ctx, r.addr, parts(some), workers)
			return err
		})
		if err != nil {
			return err
		}
		r.bench.Progress("growth, %s: %d images", r.peer.Name, have+done+len(some))
	}
	return nil
}

// aspects are what a state consists of.
func aspects() []string {
	return []string{"start ms", "tag p50 ms", "digest p50 ms", "RSS MiB", "anonymous MiB"}
}

// samples is how many tags and digests are asked for at most.
const samples = 2000

// draw returns which of n images are asked for by tag and which by digest, at random. None
// is asked for twice: what was asked for is in memory, which would be more often so with few
// images than with many.
func draw(n int) (byTag, byDigest []int) {
	order := rand.New(rand.NewPCG(1, 2)).Perm(n)
	half := min(samples, max(n/2, 1))
	return order[:half], order[n-half:]
}

// look restarts the server, and returns its state.
func (r *round) look(ctx context.Context, images []registry.Image) ([]float64, error) {
	if err := r.stop(); err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := r.run(ctx, false); err != nil {
		return nil, err
	}
	start := time.Since(begun)
	var tags, digests []registry.Part
	byTag, byDigest := draw(len(images))
	for i := range byTag {
		tags = append(tags, images[byTag[i]].ByTag)
		digests = append(digests, images[byDigest[i]].ByDigest)
	}
	tag, err := load.Latency(ctx, r.addr, tags)
	if err != nil {
		return nil, err
	}
	digest, err := load.Latency(ctx, r.addr, digests)
	if err != nil {
		return nil, err
	}
	m, err := r.process.Memory()
	if err != nil {
		return nil, err
	}
	return []float64{ms(start), ms(tag), ms(digest), float64(m.RSS) / mib, float64(m.Anonymous) / mib}, nil
}

// noteState notes a state.
func (r *round) noteState(work string, state []float64) {
	for i, what := range aspects() {
		r.lower(work, what, state[i])
	}
}

// noteGrowth notes how many times the first state the last one is.
func (r *round) noteGrowth(work string, first, last []float64) {
	for i, what := range aspects() {
		what = what[:strings.LastIndexByte(what, ' ')] // without its unit
		r.lower(work, what+", times", last[i]/max(first[i], 0.001))
	}
}
