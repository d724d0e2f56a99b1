package cache_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestWarmBlobsSayTheirLength: clients such as oras-go refuse a blob without a length, so
// a stored one has it, whichever code sets it.
func TestWarmBlobsSayTheirLength(t *testing.T) {
	s := newStory(t, onDir)
	var layers [][]byte
	for i, size := range []int{0, 1, 2047, 2048, 2049, 4096, 16 << 10, 16<<10 + 1, 100 << 10} {
		layers = append(layers, upstreamtest.Bytes(uint64(i+1), size))
	}
	img := s.up.AddImage("team/api", "v1", layers)
	s.pull("app/api", "v1", img)
	s.settle()
	web := httptest.NewUnstartedServer(s.cache)
	web.EnableHTTP2 = true
	web.StartTLS()
	s.Cleanup(web.Close)
	for _, way := range []struct {
		name   string
		client *http.Client
		url    string
		major  int
	}{
		{"HTTP/1", s.web.Client(), s.web.URL, 1},
		{"HTTP/2", web.Client(), web.URL, 2},
		{"Transport", &http.Client{Transport: s.cache.Transport()}, "http://here", 1},
	} {
		for _, method := range []string{http.MethodGet, http.MethodGet, http.MethodHead} { // the first one may bring it into memory
			for i, layer := range img.Layers {
				req, err := http.NewRequestWithContext(s.Context(), method, way.url+"/v2/app/api/blobs/"+layer.Digest.String(), nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := way.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if want := int64(len(layers[i])); resp.StatusCode != 200 || resp.ProtoMajor != way.major || resp.ContentLength != want {
					t.Errorf("%s, %s: status %d, HTTP/%d, length %d, want %d", way.name, method, resp.StatusCode, resp.ProtoMajor, resp.ContentLength, want)
				}
			}
		}
	}
}
