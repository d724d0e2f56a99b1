package cache_test

import (
	"io"
	"math"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// drain is a ResponseWriter that costs nothing. It has what that of a server has.
type drain struct {
	header http.Header
	status int
	bytes  int
}

func (d *drain) Header() http.Header { return d.header }
func (d *drain) WriteHeader(s int)   { d.status = s }
func (d *drain) Write(p []byte) (int, error) {
	d.bytes += len(p)
	return len(p), nil
}

func (d *drain) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(io.Discard, r)
	d.bytes += int(n)
	return n, err
}

// TestAllocationsOfWarmPulls: what is stored is served with so many allocations at most,
// those of net/http apart, but for the header: a map of more than eight takes more, and so
// does its copy.
func TestAllocationsOfWarmPulls(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := newStory(t, func(s *story) {
		s.cache.Freshness = time.Hour
		s.cache.Observe = nil
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/api", "v1", img)
	s.settle()
	s.wantManifest("app/api", "v1", img)
	s.up.Reset()
	const header, large = 2, 5
	const manifests, blobs = "/v2/app/api/manifests/", "/v2/app/api/blobs/"
	for _, c := range []struct {
		name, method, path  string
		header              []string
		status, most, bytes int
	}{
		{"a manifest by digest", "GET", manifests + img.Digest.String(), nil, 200, 1 + header, 600},
		{"HEAD of a manifest by digest", "HEAD", manifests + img.Digest.String(), nil, 200, 1 + header, 600},
		{"a manifest by tag", "GET", manifests + "v1", nil, 200, 1 + header, 600},
		{"HEAD of a manifest by tag", "HEAD", manifests + "v1", nil, 200, 1 + header, 600},
		{"a manifest that the client has", "GET", manifests + "v1", []string{"If-None-Match", `"` + img.Digest.String() + `"`}, 304, 1 + header, 600},
		{"a blob", "GET", blobs + img.Layers[0].Digest.String(), nil, 200, 2 + header, 650},
		{"HEAD of a blob", "HEAD", blobs + img.Layers[0].Digest.String(), nil, 200, 2 + large, 1400},
		{"the API", "GET", "/v2/", nil, 200, 4 + header, 650},
	} {
		n, bytes := allocations(t, s.cache, c.method, c.path, c.status, c.header...)
		if n > c.most {
			t.Errorf("%s: %d allocations, want %d at most", c.name, n, c.most)
		}
		if bytes > c.bytes {
			t.Errorf("%s: %d bytes are allocated, want %d at most", c.name, bytes, c.bytes)
		}
	}
	s.wantUpstream(nil)
}

// allocations counts those of one request, and their bytes: the least of some rounds, since
// whatever else goes on in the process is counted with them.
func allocations(t *testing.T, c *cache.Cache, method, path string, status int, header ...string) (n, bytes int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := &drain{}
	ask := func() {
		w.header = http.Header{}
		c.ServeHTTP(w, req)
	}
	const runs, rounds = 200, 5
	n, bytes = math.MaxInt, math.MaxInt
	for range rounds {
		n = min(n, int(testing.AllocsPerRun(runs, ask)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			ask()
		}
		runtime.ReadMemStats(&after)
		bytes = min(bytes, int(after.TotalAlloc-before.TotalAlloc)/runs)
	}
	if w.status != status || status == 200 && method == "GET" && w.bytes == 0 {
		t.Errorf("%s %s: status %d, %d bytes", method, path, w.status, w.bytes)
	}
	t.Logf("%s %s: %d, %d bytes", method, path, n, bytes)
	return n, bytes
}
