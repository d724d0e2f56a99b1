package cache_test

import (
	"net/http"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// manyRanges are Range headers that would make an answer dear: 230,000 ranges are as
// many as net/http lets through.
var manyRanges = map[string]string{
	"the same byte":        "bytes=0-0" + strings.Repeat(",0-0", 230_000),
	"every other byte":     "bytes=" + strings.TrimSuffix(strings.Repeat("1-1,3-3,5-5,7-7,", 14_000), ","),
	"suffixes":             "bytes=-1" + strings.Repeat(",-1", 300_000),
	"one too many":         "bytes=0-0" + strings.Repeat(",2-2", 64),
	"overlapping":          "bytes=0-,1-,2-",
	"with spaces and tabs": "bytes=0-0" + strings.Repeat(", \t0-0", 100_000),
}

// wantWhole asks for many ranges and wants the whole, once.
func (s *story) wantWhole(path string, want []byte) {
	s.Helper()
	for name, ranges := range manyRanges {
		for _, method := range []string{"GET", "HEAD"} {
			r := s.do(method, path, "Range", ranges)
			if r.StatusCode != http.StatusOK || r.ContentLength != int64(len(want)) {
				s.Errorf("%s of %s: %d with %d bytes, want 200 with %d", method, name, r.StatusCode, r.ContentLength, len(want))
			}
			if method == "GET" && string(r.body) != string(want) {
				s.Errorf("%s: other bytes, %v", name, r.err)
			}
		}
	}
	r := s.get(path, "Range", "bytes=0-0,2-2") // what is no attack is answered as it was asked
	if r.StatusCode != http.StatusPartialContent || !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/byteranges") {
		s.Errorf("two ranges: %d %s", r.StatusCode, r.Header.Get("Content-Type"))
	}
}

// TestManyRangesOfAHit: the ranges of what is stored are bounded like those of what is
// on its way, in each store.
func TestManyRangesOfAHit(t *testing.T) {
	for name, setup := range map[string]func(s *story){"dir": onDir, "mem": func(*story) {}} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, setup)
			layer := upstreamtest.Bytes(1, mib)
			img := s.up.AddImage("team/api", "v1", [][]byte{layer})
			s.pull("app/api", "v1", img)
			s.settle()
			path := "/v2/app/api/blobs/" + img.Layers[0].Digest.String()
			if r := s.do("HEAD", path); !strings.HasSuffix(r.Header.Get("Cache-Status"), "hit") {
				t.Fatalf("it is no hit: %q", r.Header.Get("Cache-Status"))
			}
			s.wantWhole(path, layer)
		})
	}
}

// TestManyRangesOfAManifest: of a large one, by tag and by digest.
func TestManyRangesOfAManifest(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "small", upstreamtest.Layers(1, 1000))
	large := []byte(strings.Replace(string(img.Manifest), `{"schemaVersion":2,`, `{"schemaVersion":2,"annotations":{"a":"`+strings.Repeat("x", mib)+`"},`, 1))
	if len(large) < mib {
		t.Fatal("the manifest is not as it was thought to be")
	}
	desc := s.up.AddManifest("team/api", "v1", ocispec.MediaTypeImageManifest, large)
	s.wantManifest("app/api", "v1", upstreamtest.Image{Descriptor: desc, Manifest: large})
	s.settle()
	for _, reference := range []string{"v1", desc.Digest.String()} {
		s.wantWhole("/v2/app/api/manifests/"+reference, large)
	}
}
