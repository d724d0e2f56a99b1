package evict_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/evict"
)

// number is a digest, made faster than by hashing.
func number(n uint64) digest.Digest {
	var sum [32]byte
	binary.LittleEndian.PutUint64(sum[:], n*0x9E3779B97F4A7C15)
	binary.LittleEndian.PutUint64(sum[8:], n)
	return digest.Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// addMany adds n images with shared layers: of three, two are platforms of the third, an
// index.
func addMany(g *evict.Graph, n int) {
	r := rand.New(rand.NewPCG(1, 1))
	blobs := make([]evict.Blob, 0, 9)
	children := make([]digest.Digest, 0, 2)
	for i := range n {
		image := evict.Image{
			Rule: fmt.Sprint("rule", i%300/30), Repository: fmt.Sprint("library/repo", i/30), Digest: number(uint64(i)), Bytes: 1000,
			Stored: now.Add(-time.Duration(r.IntN(100_000)) * time.Minute),
		}
		image.Use = evict.FirstUse(image.Stored)
		for range r.IntN(5) {
			image.Use = image.Use.Used(image.Stored.Add(time.Duration(r.IntN(int(now.Sub(image.Stored))/1e9+1)) * time.Second))
		}
		if blobs, children = blobs[:0], children[:0]; i%3 == 2 {
			children = append(children, number(uint64(i-1)), number(uint64(i-2)))
		} else {
			for k := range 5 { // a config and layers of its own, then shared ones
				blobs = append(blobs, evict.Blob{Digest: number(uint64(1e9 + 5*i + k)), Bytes: int64(1) << (12 + r.IntN(18))})
			}
			for range 4 {
				k := r.IntN(1000)
				blobs = append(blobs, evict.Blob{Digest: number(uint64(2e9 + k)), Bytes: int64(k) << 20})
			}
		}
		image.Blobs, image.Children = blobs, children
		g.Add(image)
	}
}

// TestMemoryOfAPlan: what a plan for 100,000 images needs is bounded.
func TestMemoryOfAPlan(t *testing.T) {
	var before, after runtime.MemStats
	var g evict.Graph
	runtime.GC()
	runtime.ReadMemStats(&before)
	addMany(&g, 100_000)
	plan := g.Plan(evict.Limits{Bytes: evict.Bound{High: g.Sizes().Bytes / 10}}, now)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := (after.HeapAlloc - before.HeapAlloc) >> 20; kept > 64 {
		t.Errorf("%d MiB are kept for %d images and a plan of %d steps", kept, g.Len(), len(plan.Steps))
	}
	if plan.Left > 20_000 || plan.Unmet != nil {
		t.Errorf("%d images are left, %v", plan.Left, plan.Unmet)
	}
	runtime.KeepAlive(&g)
}

// BenchmarkPlan builds a graph of 100,000 images, and gives up nine tenths of their bytes,
// or a thirty-second part. The time to make the images is that of the benchmark without a
// plan. MiB is the most that was in use, garbage included; GOGC=5 leaves little of that.
func BenchmarkPlan(b *testing.B) {
	var g evict.Graph
	addMany(&g, 100_000)
	size := g.Sizes().Bytes
	g = evict.Graph{}
	for _, c := range []struct {
		name  string
		parts int64
	}{{"nine tenths", 10}, {"a little", 1}, {"no plan", 0}} {
		b.Run(c.name, func(b *testing.B) {
			most := uint64(0)
			for b.Loop() {
				var g evict.Graph
				addMany(&g, 100_000)
				if c.parts == 0 {
					continue
				}
				plan := g.Plan(evict.Limits{Bytes: evict.Bound{High: size/c.parts - 1}}, now)
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
				if plan.Unmet != nil {
					b.Fatal(plan.Unmet)
				}
			}
			b.ReportMetric(float64(most>>20), "MiB")
		})
	}
}
