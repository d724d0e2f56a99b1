package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
)

// serveFor asks a handler once.
func serveFor(h http.Handler, method, path, byteRange string) *http.Response {
	req, w := httptest.NewRequest(method, path, nil), httptest.NewRecorder()
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	h.ServeHTTP(w, req)
	return w.Result()
}

// wantPart fails unless a handler serves a part whole, by HEAD and in ranges.
func wantPart(t *testing.T, h http.Handler, p Part) []byte {
	t.Helper()
	resp := serveFor(h, "GET", p.Path, "")
	body, err := io.ReadAll(resp.Body)
	sum := sha256.Sum256(body)
	if err != nil || resp.StatusCode != 200 || int64(len(body)) != p.Size || "sha256:"+hex.EncodeToString(sum[:]) != p.Digest {
		t.Fatalf("%s: status %d, %d bytes, %v", p.Path, resp.StatusCode, len(body), err)
	}
	if got := resp.Header.Get("Docker-Content-Digest"); got != p.Digest {
		t.Errorf("%s: Docker-Content-Digest %q", p.Path, got)
	}
	if resp := serveFor(h, "HEAD", p.Path, ""); resp.StatusCode != 200 || resp.ContentLength != p.Size {
		t.Errorf("HEAD %s: status %d, length %d, want %d", p.Path, resp.StatusCode, resp.ContentLength, p.Size)
	}
	resp = serveFor(h, "GET", p.Path, "bytes=7-99")
	part, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusPartialContent || !bytes.Equal(part, body[7:100]) {
		t.Errorf("%s: a range: status %d, %d bytes, %v", p.Path, resp.StatusCode, len(part), err)
	}
	return body
}

// TestSavedCatalogServesTheSame: the bare server has what the registry has.
func TestSavedCatalogServesTheSame(t *testing.T) {
	folder := t.TempDir()
	c := &Catalog{}
	images := append(c.Tiny("test", 0, 30), c.Layered("b/layered", 3, 1000))
	large, err := c.Large(folder, "b/large", 200_000)
	if err != nil {
		t.Fatal(err)
	}
	images = append(images, large)
	file := filepath.Join(folder, "catalog")
	if err := c.Save(file); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []http.Handler{Handler(c), Handler(loaded)} {
		for _, img := range images {
			for _, p := range append(img.Parts(), img.ByDigest) {
				wantPart(t, h, p)
			}
		}
		for _, path := range []string{"/v2/b/test/r0/manifests/t999", "/v2/b/other/manifests/t1", "/"} {
			if resp := serveFor(h, "GET", path, ""); resp.StatusCode != 404 {
				t.Errorf("%s: status %d, want 404", path, resp.StatusCode)
			}
		}
		if resp := serveFor(h, "PUT", images[0].ByTag.Path, ""); resp.StatusCode != 405 {
			t.Errorf("PUT: status %d, want 405", resp.StatusCode)
		}
	}
}

// TestTinyImages: each is its own, of the size that is told, equal in every run, and
// its manifest names its blobs.
func TestTinyImages(t *testing.T) {
	c, again, seen := &Catalog{}, &Catalog{}, map[string]bool{}
	images := c.Tiny("a", 0, 100)
	later := append(again.Tiny("a", 0, 40), again.Tiny("a", 40, 100)...)
	h := Handler(c)
	for i, img := range images {
		if img.ByTag != later[i].ByTag {
			t.Fatalf("image %d is %v, and was %v", i, later[i].ByTag, img.ByTag)
		}
		for _, p := range img.Parts() {
			if seen[p.Digest] {
				t.Errorf("image %d has %s, as another one has", i, p.Path)
			}
			if seen[p.Digest] = true; p.Size < 300 || p.Size > 2048 {
				t.Errorf("image %d: %s has %d bytes", i, p.Path, p.Size)
			}
		}
		var m struct {
			Config struct{ Digest string }
			Layers []struct {
				Digest string
				Size   int64
			}
		}
		if err := json.Unmarshal(wantPart(t, h, img.ByTag), &m); err != nil {
			t.Fatal(err)
		}
		if m.Config.Digest != img.Config.Digest || len(m.Layers) != 1 || m.Layers[0].Digest != img.Layers[0].Digest || m.Layers[0].Size != img.Layers[0].Size {
			t.Errorf("image %d: its manifest names %+v", i, m)
		}
	}
}

// TestServerCounts: what was asked for upstream shows whether a pull was warm.
func TestServerCounts(t *testing.T) {
	c := &Catalog{}
	img := c.Layered("b/x", 1, 100)
	s, err := Start(c, Link{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ask := func(method, path string) {
		req, err := http.NewRequest(method, "http://"+s.Host+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	ask("HEAD", img.ByTag.Path)
	ask("GET", img.ByDigest.Path)
	ask("GET", img.Layers[0].Path)
	ask("HEAD", img.Layers[0].Path)
	ask("GET", "/v2/")
	if s.Asked() != 2 || s.Fetched() != 1 {
		t.Errorf("%d manifests and %d blobs were counted, want 2 and 1", s.Asked(), s.Fetched())
	}
	s.Reset()
	if s.Asked() != 0 || s.Fetched() != 0 {
		t.Errorf("after Reset: %d and %d", s.Asked(), s.Fetched())
	}
}
