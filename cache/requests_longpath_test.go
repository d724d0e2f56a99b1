package cache_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// What is remembered of a request is its repository and its tag or digest, and not
// the line that they came in: a client may write a megabyte behind them.
func TestRequestLinesAreNotKept(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	s.manifest("app/api", "v1")
	s.settle()
	before := heap()
	query := "?x=" + strings.Repeat("x", 500<<10)
	for i := range 100 {
		tag := fmt.Sprint("t", i)
		s.up.Tag("team/api", tag, img.Digest)
		s.do("HEAD", "/v2/app/api/manifests/"+tag+query)
		s.do("HEAD", fmt.Sprintf("/v2/app/none%d/manifests/v1%s", i, query))
		s.do("HEAD", fmt.Sprintf("/v2/app/api/blobs/%s%s", img.Layers[0].Digest, query))
		s.up.Reset()
	}
	if now := heap(); now > before+8<<20 {
		t.Errorf("%d MiB are held after 300 requests with long queries, %d MiB before", now>>20, before>>20)
	}
}
