package cache_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func TestFirstPullStreamsAndTheSecondIsLocal(t *testing.T) {
	s := newStory(t, oneConnection)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(3, 300<<10))
	if r := s.wantManifest("app/api", "v1", img); r.Header.Get("X-Azure-Origin") != "upstream" {
		t.Error("a first pull lacks X-Azure-Origin: upstream")
	}
	s.pullBlobs("app/api", img)
	s.settle()
	s.wantUpstream(map[string]int{"GET manifest": 1, "GET blob": 4})
	s.wantEvents("app/api:v1", "app/api@"+img.Digest.String())

	s.up.Reset()
	r := s.wantManifest("app/api", "v1", img)
	if r.Header.Get("X-Azure-Origin") != "" {
		t.Error("a stored copy has X-Azure-Origin")
	}
	s.pullBlobs("app/api", img)
	s.settle()
	s.wantUpstream(map[string]int{"HEAD manifest": 1})
	s.wantEvents()

	s.up.Stop()
	s.pull("app/api", "v1", img)
	if r := s.manifest("app/api", "v1"); !strings.Contains(r.Header.Get("Cache-Status"), "fwd=stale") {
		t.Errorf("Cache-Status %q of a stale answer", r.Header.Get("Cache-Status"))
	}
}

func TestMovedTagFetchesWhatChanged(t *testing.T) {
	s := newStory(t, oneConnection)
	layers := upstreamtest.Layers(3, 200<<10)
	first := s.up.AddImage("team/api", "v1", layers)
	s.pull("app/api", "v1", first)
	s.settle()
	s.wantEvents("app/api:v1", "app/api@"+first.Digest.String())
	s.up.Reset()
	second := s.up.AddImage("team/api", "v1", [][]byte{layers[0], layers[1], upstreamtest.Bytes(99, 100<<10)})
	s.pull("app/api", "v1", second)
	s.settle()
	s.wantUpstream(map[string]int{"HEAD manifest": 1, "GET manifest": 1, "GET blob": 2})
	s.wantEvents("app/api:v1", "app/api@"+second.Digest.String())
	s.up.Stop()
	s.pull("app/api", "v1", second)
	s.pull("app/api", first.Digest.String(), first)
}

func TestContainerdsWay(t *testing.T) {
	s := newStory(t)
	img := s.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(3, 200<<10), "amd64", "arm64")
	head := func() {
		if r := s.do("HEAD", "/v2/app/api/manifests/v1"); r.StatusCode != 200 || r.Header.Get("Docker-Content-Digest") != img.Digest.String() || len(r.body) != 0 {
			t.Fatalf("HEAD: %d %v", r.StatusCode, r.Header)
		}
	}
	head()
	s.wantManifest("app/api", img.Digest.String(), img)
	for _, c := range img.Children { // ctr gets the manifests and configs of all platforms
		s.wantManifest("app/api", c.Digest.String(), c)
		s.wantBlob("app/api", c.Config.Digest)
	}
	s.settle()
	s.wantEvents()
	amd := img.Children[0]
	for _, l := range amd.Layers {
		s.wantBlob("app/api", l.Digest)
	}
	s.settle()
	s.wantEvents("app/api:v1", "app/api@"+img.Digest.String(), "app/api@"+amd.Digest.String())
	if n := s.up.BlobBytes(img.Children[1].Layers[1].Digest); n != 0 {
		t.Errorf("%d bytes of a layer of the other platform were copied", n)
	}
	s.up.Reset()
	head()
	s.wantManifest("app/api", img.Digest.String(), img)
	s.pull("app/api", amd.Digest.String(), amd)
	s.wantUpstream(map[string]int{"HEAD manifest": 1})

	arm := img.Children[1]
	s.pull("app/api", arm.Digest.String(), arm)
	s.settle()
	s.wantEvents("app/api@" + arm.Digest.String())
	s.up.Stop()
	s.pull("app/api", arm.Digest.String(), arm)
	s.wantManifest("app/api", "v1", img)
}

func TestDigestPullMakesNoTag(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 10<<10))
	s.pull("app/api", img.Digest.String(), img)
	s.settle()
	s.wantEvents("app/api@" + img.Digest.String())
	s.up.Stop()
	s.pull("app/api", img.Digest.String(), img)
	s.wantError(s.manifest("app/api", "v1"), 502, "UNKNOWN")
}

func TestFiftyAtOnceAskTwice(t *testing.T) {
	inBubble(t, func(c *clock) { // where no time passes before all fifty have asked
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 10<<10))
		c.manifest("v1")
		c.pass(0)
		c.up.Reset()
		c.up.Fail(upstreamtest.Fault{Kind: "manifest", Latency: 50 * time.Millisecond})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, _, err := c.cache.Manifest(c.Context(), "app/api", "v1"); err != nil {
					c.Error(err)
				}
			})
		}
		wg.Wait()
		if n := c.up.Count("HEAD", "manifest", ""); n == 0 || n > 2 || c.up.Count("", "", "") != n {
			c.Errorf("50 pulls cost %d HEADs of %d requests", n, c.up.Count("", "", ""))
		}
	})
}
