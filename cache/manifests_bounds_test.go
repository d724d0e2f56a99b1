package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// wide adds a manifest that names one layer n times. The number makes it another one.
func (s *story) wide(tag string, n, number int) upstreamtest.Image {
	s.Helper()
	one := s.up.AddImage("team/api", "", upstreamtest.Layers(1, 100))
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: one.Config, Annotations: map[string]string{"number": fmt.Sprint(number)}}
	for range n {
		m.Layers = append(m.Layers, one.Layers[0])
	}
	data, err := json.Marshal(m)
	if err != nil {
		s.Fatal(err)
	}
	img := upstreamtest.Image{Repository: "team/api", Manifest: data, Config: one.Config, Layers: one.Layers}
	img.Descriptor = s.up.AddManifest("team/api", tag, m.MediaType, data)
	return img
}

// A manifest that names more than 4096 layers is passed on and not copied.
func TestLayersOfAManifestAreBounded(t *testing.T) {
	for n, copied := range map[int]bool{4096: true, 4097: false} {
		s := newStory(t)
		img := s.wide("v1", n, 0)
		s.wantManifest("app/api", "v1", img)
		s.settle()
		s.up.Stop()
		if r := s.manifest("app/api", "v1"); (r.StatusCode == 200) != copied {
			t.Errorf("%d layers: %d with the upstream gone", n, r.StatusCode)
		}
	}
}

// What is kept in memory of manifests is what was read of them too.
func TestParsedManifestsArePaidFor(t *testing.T) {
	const memory = 16 << 20
	s := newStory(t, func(s *story) { onDir(s); s.cache.Limits.ManifestMemory = memory })
	var all []upstreamtest.Image
	for i := range 150 {
		all = append(all, s.wide(fmt.Sprint("v", i), 1000, i))
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for i, img := range all {
		s.wantManifest("app/api", fmt.Sprint("v", i), img)
	}
	s.settle()
	for i, img := range all {
		s.wantManifest("app/api", fmt.Sprint("v", i), img)
	}
	if grown := heap() - before; grown > memory*3/2 {
		t.Errorf("the heap grew by %d MiB, though manifests may take %d", grown>>20, memory>>20)
	}
}

// Referrers that an upstream makes up, each of which has one of its own, come to an end.
func TestChainOfReferrersEnds(t *testing.T) {
	s := newStory(t)
	s.replace(rule.Rule{Referrers: true})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 100))
	var asked atomic.Int64
	s.up.Fail(upstreamtest.Fault{Kind: "referrers", Do: func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		subject := upstreamtest.Image{}
		subject.Digest = digest.Digest(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
		sig := s.up.AddArtifact("team/api", "", "application/signature", subject, []byte(fmt.Sprint("signature ", n)))
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_ = json.NewEncoder(w).Encode(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
			Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: sig.Digest, Size: sig.Size}}})
	}})
	s.pull("app/api", "v1", img)
	s.settle()
	if n := asked.Load(); n != 3 {
		t.Errorf("the upstream was asked %d times what refers to a manifest, want 3: to the image, its signature, and the signature of that", n)
	}
}

// An index that names another one twice, and so on, is copied once.
func TestPrefetchOfADoubledIndex(t *testing.T) {
	s := newStory(t)
	inner := s.up.AddImage("team/api", "", upstreamtest.Layers(1, 100))
	const levels = 24
	for i := range levels {
		inner = s.up.AddIndex("team/api", fmt.Sprint("v", i), inner, inner)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.cache.Prefetch(ctx, "app/api", fmt.Sprint("v", levels-1), cache.PrefetchOptions{}); err != nil {
		t.Fatal(err)
	}
	s.up.Stop()
	s.wantManifest("app/api", inner.Digest.String(), inner)
}

// Whoever called Prefetch does not wait longer than the context lasts.
func TestPrefetchEndsWithItsContext(t *testing.T) {
	s := newStory(t)
	child := s.up.AddImage("team/api", "", upstreamtest.Layers(1, 100))
	s.up.AddIndex("team/api", "v1", child)
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Reference: child.Digest.String(), Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := s.cache.Prefetch(ctx, "app/api", "v1", cache.PrefetchOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the end of the context", err)
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}

// A copy moves 256 tags, those that were seen last.
func TestTagsOfAJobAreBounded(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "t0", upstreamtest.Layers(1, 100))
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 503})
	for i := range 300 {
		s.up.Tag("team/api", fmt.Sprint("t", i), img.Digest)
		s.wantManifest("app/api", fmt.Sprint("t", i), img)
	}
	copies := s.cache.Copies()
	if len(copies) != 1 || len(copies[0].Tags) != 256 {
		t.Fatalf("%v", copies)
	}
	last := false
	for _, tag := range copies[0].Tags {
		if last = last || tag == "t299"; tag == "t0" {
			t.Error("the tag that was seen first is still there")
		}
	}
	if !last {
		t.Error("the tag that was seen last is not there")
	}
	s.up.Heal()
}

// What an upstream does not have is not asked for in a loop, and can be had a moment
// after it is there.
func TestAbsentDigestsAreNotAskedForInALoop(t *testing.T) {
	inBubble(t, func(c *clock) {
		gone := digest.FromString("gone")
		for _, kind := range []string{"manifests", "blobs"} {
			for _, method := range []string{"GET", "HEAD"} {
				c.pass(3 * time.Second)
				c.up.Reset()
				for range 20 {
					if status := c.status(method, "/v2/app/api/"+kind+"/"+gone.String()); status != 404 {
						c.Errorf("%s %s: %d", method, kind, status)
					}
				}
				if n := len(c.up.Requests()); n == 0 || n > 6 {
					c.Errorf("%s %s: the upstream was asked %d times", method, kind, n)
				}
			}
		}
		c.up.AddBlob("team/api", []byte("gone"))
		c.pass(1001 * time.Millisecond)
		if status := c.status("GET", "/v2/app/api/blobs/"+gone.String()); status != 200 {
			c.Errorf("a moment later: %d", status)
		}
	})
}

// status asks the handler.
func (c *clock) status(method, path string) int {
	c.Helper()
	w := httptest.NewRecorder()
	c.cache.ServeHTTP(w, httptest.NewRequestWithContext(c.Context(), method, path, nil))
	return w.Code
}
