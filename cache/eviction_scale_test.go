package cache_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// seed stores n images with a config and a layer each, and returns the bytes of one.
func seed(t *testing.T, d *store.Dir, repo, source string, n int) (bytes int64) {
	t.Helper()
	const atOnce = 200
	for from := 0; from < n; from += atOnce {
		b := &store.Batch{}
		for i := from; i < min(n, from+atOnce); i++ {
			m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
			add := func(mediaType string, data []byte) ocispec.Descriptor {
				desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
				b.Content = append(b.Content, store.Piece{Repo: repo, Info: store.Info{Source: source, Descriptor: desc}, Bytes: data})
				return desc
			}
			m.Config = add(ocispec.MediaTypeImageConfig, fmt.Appendf(nil, "{\"seed\":%10d}", i))
			m.Layers = []ocispec.Descriptor{add(ocispec.MediaTypeImageLayerGzip, fmt.Appendf(make([]byte, 500), "layer %10d", i))}
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			desc := add(ocispec.MediaTypeImageManifest, text)
			b.Tags = append(b.Tags, store.TagChange{Repo: repo, Tag: fmt.Sprint("seed", i), Value: store.Tag{Descriptor: desc, Source: source, Asked: time.Now()}})
			bytes = desc.Size + m.Config.Size + m.Layers[0].Size
		}
		if err := d.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	return bytes
}

// A store shrinks to a tenth while pulls go on, and no pull fails. PULLTHROUGH_IMAGES
// says how many images it has; without it, there are few.
func TestEvictionWhilePullsGoOn(t *testing.T) {
	images := 2000
	if n, err := strconv.Atoi(os.Getenv("PULLTHROUGH_IMAGES")); err == nil {
		images = n
	}
	s := newStory(t, func(s *story) { onDir(s); s.cache.Eviction = cache.Eviction{MaxBytes: 1 << 40} })
	d := s.cache.Store.(*store.Dir)
	one := seed(t, d, "app/api", "http://"+s.up.Host()+"/team/api", images)
	if err := s.cache.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	most := one * int64(images) / 10
	c := &cache.Cache{Rules: s.rules, Store: d, Upstream: s.up.Client(), Eviction: cache.Eviction{MaxBytes: most}}
	defer func() {
		if err := c.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	for i := range 20 {
		s.up.AddImage("team/new", fmt.Sprint("v", i), upstreamtest.Layers(2, 300+i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var pulls, failed atomic.Int64
	var group sync.WaitGroup
	small := make(chan struct{})
	for w := range 4 {
		group.Go(func() {
			for i := w; ; i++ {
				select {
				case <-small:
					return
				default:
				}
				if err := pullAll(ctx, c, "app/new", fmt.Sprint("v", i%20)); err != nil {
					failed.Add(1)
					t.Error(err)
					return
				}
				pulls.Add(1)
			}
		})
	}
	begun := time.Now()
	for {
		size, err := d.Size(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if size.Content < most {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("%d images were evicted in %v, beside %d pulls", c.Stats().Evicted, time.Since(begun).Round(time.Millisecond), pulls.Load())
	close(small)
	group.Wait()
	if _, err := c.Evict(ctx); err != nil { // which waits for the pass under way
		t.Fatal(err)
	}
	left := 0
	for _, err := range d.Manifests(ctx, "app/api") {
		if left++; err != nil {
			t.Fatal(err)
		}
	}
	tags := 0
	for name, err := range d.TagNames(ctx, "app/api", "") {
		tag, terr := d.Tag(ctx, "app/api", name)
		if err != nil || terr != nil {
			t.Fatal(err, terr)
		}
		if _, err := d.Stat(ctx, "app/api", tag.Digest); err != nil {
			t.Errorf("the tag %s points to nothing: %v", name, err)
		}
		tags++
	}
	if left != tags || left > images/10 || left < images/20 {
		t.Errorf("%d of %d images are left, and %d tags", left, images, tags)
	}
	if err := d.Check(ctx, store.CheckOptions{Rate: -1}, func(f store.Fault) { t.Error(f) }); err != nil {
		t.Error(err)
	}
}

// pullAll pulls an image with all that it names.
func pullAll(ctx context.Context, c *cache.Cache, repo, tag string) error {
	_, body, err := c.Manifest(ctx, repo, tag)
	if err != nil {
		return fmt.Errorf("%s:%s: %w", repo, tag, err)
	}
	for _, d := range digestsIn(body) {
		_, r, err := c.Blob(ctx, repo, d)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if err != nil {
			return fmt.Errorf("%s of %s:%s: %w", d, repo, tag, err)
		}
	}
	return nil
}
