//go:build linux

package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// instant is an upstream in memory: the figures are those of the jobs alone. Its
// manifests name nothing.
type instant struct{ manifests map[string]instantManifest }

type instantManifest struct {
	desc ocispec.Descriptor
	body []byte
}

func (u instant) Open(upstream.Source, auth.Authenticator) (upstream.Repository, error) {
	return u, nil
}

func (u instant) Resolve(_ context.Context, reference string) (ocispec.Descriptor, error) {
	return u.manifests[reference].desc, nil
}

func (u instant) Manifest(_ context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	m := u.manifests[reference]
	return m.desc, m.body, nil
}

func (instant) Blob(context.Context, digest.Digest, int64, int64) (upstream.Body, error) {
	return upstream.Body{}, errors.ErrUnsupported
}

func (instant) StatBlob(context.Context, digest.Digest) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, errors.ErrUnsupported
}

// images makes n manifests under the tags v0, v1 ...
func (u instant) images(b *testing.B, n int) {
	for i := range n {
		body, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			ArtifactType: "application/vnd.example.bench", Layers: []ocispec.Descriptor{}, Annotations: map[string]string{"n": fmt.Sprint(i)}})
		if err != nil {
			b.Fatal(err)
		}
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(body), Size: int64(len(body))}
		u.manifests[fmt.Sprint("v", i)] = instantManifest{desc, body}
	}
}

// never is a Copier that takes jobs and does nothing.
type never struct{}

func (never) Submit(context.Context, cache.Job) error { return nil }

// jobBench has b.N images pulled by tag, through a Dir, and returns when drained
// says so.
func jobBench(b *testing.B, copier cache.Copier, events bool, workers int, drained func(c *cache.Cache, delivered func() int64) bool) {
	dir, err := store.OpenDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: "registry.example.com/team/*", Target: "app/*"})
	if err != nil {
		b.Fatal(err)
	}
	up := instant{map[string]instantManifest{}}
	up.images(b, b.N)
	c := &cache.Cache{Rules: rules, Store: dir, Upstream: up, Copier: copier, Limits: cache.Limits{MaxJobs: 1 << 20, ManifestMemory: 1 << 30}}
	outbox := &webhook.Outbox{Records: dir, Queue: 1 << 20, Receivers: []webhook.Receiver{
		{Name: "bench", Sink: webhook.SinkFunc(func(context.Context, webhook.Event) error { return nil })},
	}}
	if events {
		c.Events = outbox
	}
	b.Cleanup(func() {
		if err := errors.Join(c.Shutdown(context.Background()), outbox.Shutdown(context.Background()), dir.Close()); err != nil {
			b.Error(err)
		}
	})
	b.ResetTimer()
	work := make(chan int)
	done := make(chan error)
	for range workers {
		go func() {
			var err error
			for i := range work {
				_, _, e := c.Manifest(context.Background(), "app/api", fmt.Sprint("v", i))
				err = errors.Join(err, e)
			}
			done <- err
		}()
	}
	for i := range b.N {
		work <- i
	}
	close(work)
	for range workers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	for !drained(c, func() int64 { return outbox.States()[0].Delivered }) {
		time.Sleep(100 * time.Microsecond)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

// BenchmarkJobs is what a copy costs besides the bytes: written down (enqueue),
// and linked, tagged and its two events delivered as well (drain). The plain cost
// of the disk stands beside it.
//
//	go test -run '^$' -bench Jobs -benchtime 2000x ./cache
func BenchmarkJobs(b *testing.B) {
	for _, workers := range []int{1, 16} {
		b.Run(fmt.Sprint("enqueue/", workers), func(b *testing.B) {
			jobBench(b, never{}, false, workers, func(*cache.Cache, func() int64) bool { return true })
		})
		b.Run(fmt.Sprint("drain/", workers), func(b *testing.B) {
			jobBench(b, nil, false, workers, func(c *cache.Cache, _ func() int64) bool { return c.Stats().Jobs == 0 })
		})
		b.Run(fmt.Sprint("drain-with-events/", workers), func(b *testing.B) {
			jobBench(b, nil, true, workers, func(c *cache.Cache, delivered func() int64) bool {
				return c.Stats().Jobs == 0 && delivered() == int64(2*b.N)
			})
		})
	}
	b.Run("fdatasync", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "log"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		data := make([]byte, 600)
		for range b.N {
			if _, err := f.Write(data); err != nil {
				b.Fatal(err)
			}
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}
