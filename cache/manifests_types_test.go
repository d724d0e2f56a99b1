package cache_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestManifestsOfAllTypes: what the upstream holds is passed on byte for byte with
// its type, copied with what it names, and served with the upstream gone.
func TestManifestsOfAllTypes(t *testing.T) {
	const (
		ociArtifact  = "application/vnd.oci.artifact.manifest.v1+json"
		orasArtifact = "application/vnd.cncf.oras.artifact.manifest.v1+json"
		strange      = "application/vnd.example.thing.v7+json"
	)
	blob := func(n int) []byte { return upstreamtest.Bytes(uint64(n), 1000+n) }
	desc := func(n int) string {
		return fmt.Sprintf(`{"mediaType":"application/octet-stream","digest":%q,"size":%d}`, digest.FromBytes(blob(n)), 1000+n)
	}
	for name, c := range map[string]struct {
		label, body, want string
		named             []int // blobs that the copy must bring
	}{
		"OCI artifact":        {ociArtifact, `{"mediaType":"` + ociArtifact + `","artifactType":"x/y","blobs":[` + desc(1) + `,` + desc(2) + `]}`, ociArtifact, []int{1, 2}},
		"ORAS artifact":       {orasArtifact, `{"mediaType":"` + orasArtifact + `","artifactType":"x/y","blobs":[` + desc(3) + `]}`, orasArtifact, []int{3}},
		"image as JSON":       {"application/json", `{"schemaVersion":2,"config":` + desc(4) + `,"layers":[` + desc(5) + `]}`, ocispec.MediaTypeImageManifest, []int{4, 5}},
		"index as JSON":       {"application/json", `{"schemaVersion":2,"manifests":[]}`, ocispec.MediaTypeImageIndex, nil},
		"unknown with layers": {strange, `{"layers":[` + desc(6) + `],"config":` + desc(7) + `}`, strange, []int{6, 7}},
		"unknown with blobs":  {strange, `{"blobs":[` + desc(8) + `]}`, strange, []int{8}},
		"unknown otherwise":   {strange, `{"layers":"many","config":7}`, strange, nil},
	} {
		for _, dir := range []bool{false, true} {
			t.Run(fmt.Sprint(name, dir), func(t *testing.T) {
				s := newStory(t, func(s *story) {
					if dir {
						onDir(s)
					}
				})
				for n := 1; n < 9; n++ {
					s.up.AddBlob("team/api", blob(n))
				}
				d := s.up.AddManifest("team/api", "v1", c.label, []byte(c.body))
				img := upstreamtest.Image{Manifest: []byte(c.body), Descriptor: d}
				check := func(when string) {
					t.Helper()
					for _, ref := range []string{"v1", d.Digest.String()} {
						r := s.wantManifest("app/api", ref, img)
						if got := r.Header.Get("Content-Type"); got != c.want {
							t.Errorf("%s, %s: Content-Type %q, want %q", when, ref, got, c.want)
						}
					}
				}
				check("cold")
				s.settle()
				check("warm")
				s.wantEvents("app/api:v1", "app/api@"+d.Digest.String())
				s.up.Stop()
				check("alone")
				for _, n := range c.named {
					s.wantBlob("app/api", digest.FromBytes(blob(n)))
				}
				if r := s.blob("app/api", d.Digest); r.StatusCode == 200 {
					t.Error("a blob path serves a manifest")
				}
			})
		}
	}
}

// The subject of an artifact of the former kinds is known too.
func TestSubjectOfAnArtifactManifest(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	body := fmt.Sprintf(`{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","artifactType":"x/y","blobs":[],"subject":{"digest":%q,"size":%d}}`, img.Digest, img.Size)
	d := s.up.AddManifest("team/api", "art", "application/vnd.oci.artifact.manifest.v1+json", []byte(body))
	s.pull("app/api", "v1", img)
	s.wantManifest("app/api", "art", upstreamtest.Image{Manifest: []byte(body), Descriptor: d})
	s.settle()
	if err := s.rules.Delete("team"); err != nil { // a plain repository lists what it has
		t.Fatal(err)
	}
	r := s.get("/v2/app/api/referrers/" + img.Digest.String() + "?artifactType=x/y")
	var index ocispec.Index
	if err := json.Unmarshal(r.body, &index); err != nil || len(index.Manifests) != 1 || index.Manifests[0].Digest != d.Digest {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}

// A label says nothing about bytes that hash right.
func TestLabelledLayers(t *testing.T) {
	for _, encoding := range []string{"gzip", "zstd", "aws-chunked"} {
		s := newStory(t)
		s.up.Fail(upstreamtest.Fault{Encoding: encoding})
		img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 100_000))
		s.pull("app/api", "v1", img)
		if r := s.blob("app/api", img.Layers[0].Digest); r.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: the label is passed on", encoding)
		}
		s.settle()
		s.up.Stop()
		s.pull("app/api", "v1", img)
	}
}

// TestRangesColdAndWarm: a Range means the same of what is on its way and of what is
// stored, and of a manifest.
func TestRangesColdAndWarm(t *testing.T) {
	many := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("%d-%d", i*10, i*10+1))
		}
		return "bytes=" + strings.Join(list, ",")
	}
	s := newStory(t)
	data := upstreamtest.Bytes(1, 70_000)
	img := s.up.AddImage("team/api", "v1", [][]byte{data})
	layer := img.Layers[0].Digest
	for name, c := range map[string]struct {
		header, ifRange string
		status, length  int // length 0: not looked at
	}{
		"one": {header: "bytes=10-19", status: 206, length: 10}, "open": {header: "bytes=69990-", status: 206, length: 10}, "last": {header: "bytes=-5", status: 206, length: 5},
		"everything": {header: "bytes=0-", status: 206, length: 70_000},
		"two":        {header: "bytes=1-2,5-6", status: 206}, "64": {header: many(64), status: 206}, "65": {header: many(65), status: 200, length: 70_000}, "1000": {header: many(1000), status: 200, length: 70_000},
		"overlapping": {header: "bytes=0-69999,0-69999", status: 200, length: 70_000},
		"beyond":      {header: "bytes=70000-", status: 416}, "unreadable": {header: "bytes=x-y", status: 200, length: 70_000}, "another unit": {header: "lines=1-2", status: 200, length: 70_000}, "backwards": {header: "bytes=5-1", status: 200, length: 70_000},
		"if it is": {header: "bytes=10-19", ifRange: `"` + layer.String() + `"`, status: 206, length: 10}, "if it were": {header: "bytes=10-19", ifRange: `"other"`, status: 200, length: 70_000},
	} {
		ask := func(s *story) (int, int, string, string) {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/app/api/blobs/"+layer.String(), nil)
			req.Header.Set("Range", c.header)
			if c.ifRange != "" {
				req.Header.Set("If-Range", c.ifRange)
			}
			w := httptest.NewRecorder()
			s.cache.ServeHTTP(w, req)
			return w.Code, w.Body.Len(), w.Header().Get("Content-Type"), w.Header().Get("Content-Range")
		}
		cold := newStory(t)
		cold.up.AddBlob("team/api", data)
		s.wantBlob("app/api", layer)
		s.settle()
		code, n, kind, extent := ask(s)
		coldCode, coldN, coldKind, coldExtent := ask(cold)
		kind, _, _ = strings.Cut(kind, ";")
		coldKind, _, _ = strings.Cut(coldKind, ";")
		if code != c.status || c.length > 0 && n != c.length {
			t.Errorf("%s, warm: %d with %d bytes, want %d with %d", name, code, n, c.status, c.length)
		}
		if coldCode != code || coldN != n && kind == "application/octet-stream" || coldKind != kind || coldExtent != extent {
			t.Errorf("%s: cold %d, %d bytes of %s %s, warm %d, %d bytes of %s %s", name, coldCode, coldN, coldKind, coldExtent, code, n, kind, extent)
		}
		if c.status == 416 && kind != "application/json" {
			t.Errorf("%s: 416 as %s", name, kind)
		}
	}
	for header, status := range map[string]int{"bytes=0-9": 206, "bytes=100000-": 416, "bytes=x": 200, many(65): 200} {
		r := s.get("/v2/app/api/manifests/v1", "Range", header)
		if r.StatusCode != status || status == 416 && r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("manifest, %.20s: %d %v", header, r.StatusCode, r.Header)
		}
	}
	if r := s.do(http.MethodHead, "/v2/app/api/blobs/"+layer.String(), "Range", "bytes=0-9"); r.StatusCode != 200 || r.Header.Get("Content-Length") != "70000" {
		t.Errorf("HEAD with a Range: %d %v", r.StatusCode, r.Header)
	}
}
