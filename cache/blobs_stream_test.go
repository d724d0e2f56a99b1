package cache_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

const (
	mib       = 1 << 20
	layerSize = 16 * mib
)

// oneConnection downloads each blob over one connection, for tests that count requests: a
// connection on which nothing comes for five seconds gets a second one beside it.
func oneConnection(s *story) { s.cache.Limits.Segments = 1 }

// oneLayer adds an image with one large layer and pulls its manifest.
func (s *story) oneLayer(size int) (upstreamtest.Image, digest.Digest) {
	s.Helper()
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, size))
	s.wantManifest("app/api", "v1", img)
	return img, img.Layers[0].Digest
}

// oneBlob adds a blob that no manifest names, so that no copy fetches it before
// a client does.
func (s *story) oneBlob(size int) digest.Digest {
	return s.up.AddBlob("team/api", upstreamtest.Bytes(uint64(size), size))
}

func (s *story) gets(d digest.Digest) int { return s.up.Count("GET", "blob", d.String()) }

func onDir(s *story) {
	dir, err := store.OpenDir(s.TempDir())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = dir.Close() })
	s.cache.Store = dir
}

func TestManyClientsOneDownload(t *testing.T) {
	s := newStory(t, onDir, oneConnection)
	s.up.Pace(16 * mib)
	_, layer := s.oneLayer(layerSize)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r := s.blob("app/api", layer)
			if r.err != nil || digest.FromBytes(r.body) != layer {
				t.Errorf("%d bytes, %v", len(r.body), r.err)
			}
		})
	}
	wg.Wait()
	if n := s.gets(layer); n != 1 {
		t.Errorf("8 clients cost %d upstream GETs, want 1", n)
	}
	if n := s.up.BlobBytes(layer); n != layerSize {
		t.Errorf("upstream sent %d bytes, want each byte once", n)
	}
}

// readSome reads n bytes of a blob and returns the rest.
func (s *story) readSome(d digest.Digest, n int64) (io.ReadCloser, []byte) {
	s.Helper()
	req, _ := http.NewRequestWithContext(s.Context(), "GET", s.web.URL+"/v2/app/api/blobs/"+d.String(), nil)
	resp, err := s.web.Client().Do(req)
	if err != nil {
		s.Fatal(err)
	}
	buf := make([]byte, n)
	if _, err := io.ReadFull(resp.Body, buf); err != nil {
		s.Fatal(err)
	}
	return resp.Body, buf
}

func TestLateJoinerStartsAtOnce(t *testing.T) {
	s := newStory(t, onDir, oneConnection)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, layerSize))
	layer := img.Layers[0].Digest
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: layer.String(), Stall: layerSize * 5 / 8, Times: 1})
	s.wantManifest("app/api", "v1", img)
	first, head := s.readSome(layer, layerSize/2)
	defer first.Close()
	second, again := s.readSome(layer, layerSize/4) // comes from what is there: no more does
	defer second.Close()
	s.up.Release()
	if !bytes.Equal(head[:len(again)], again) {
		t.Error("two clients got different bytes")
	}
	rest, err := io.ReadAll(second)
	if err != nil || digest.FromBytes(append(again, rest...)) != layer {
		t.Errorf("the late client got %d bytes, %v", len(again)+len(rest), err)
	}
	if n := s.gets(layer); n != 1 {
		t.Errorf("%d upstream GETs, want 1", n)
	}
}

func TestDownloadGoesOnWithoutItsClient(t *testing.T) {
	s := newStory(t, onDir, oneConnection)
	s.up.Pace(32 * mib)
	_, layer := s.oneLayer(layerSize)
	body, _ := s.readSome(layer, layerSize/4)
	_ = body.Close()
	s.wantBlob("app/api", layer)
	s.settle()
	if n := s.gets(layer); n != 1 {
		t.Errorf("%d upstream GETs, want 1", n)
	}
	s.up.Stop()
	s.wantBlob("app/api", layer)
}

func TestSlowReaderSlowsNobody(t *testing.T) {
	s := newStory(t, onDir, oneConnection)
	_, layer := s.oneLayer(layerSize)
	slow, _ := s.readSome(layer, 1) // and reads no more
	defer slow.Close()
	s.wantBlob("app/api", layer)
	s.settle()
	if n := s.gets(layer); n != 1 {
		t.Errorf("%d upstream GETs, want 1", n)
	}
}

func TestRangeOfAColdBlobComesAtOnce(t *testing.T) {
	s := newStory(t, onDir, oneConnection)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 4*layerSize))
	layer := img.Layers[0].Digest
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: layer.String(), Stall: layerSize, Times: 1}) // the copy comes no further
	s.wantManifest("app/api", "v1", img)
	want := s.up.Blob("team/api", layer)
	from, to := 3*layerSize+12345, 3*layerSize+12345+mib
	r := s.blob("app/api", layer, "Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	if r.StatusCode != 206 || !bytes.Equal(r.body, want[from:to]) {
		t.Fatalf("status %d, %d bytes, %v", r.StatusCode, len(r.body), r.err)
	}
	if sent := s.up.BlobBytes(layer); sent > layerSize*3 {
		t.Errorf("the range waited for %d bytes", sent)
	}
	if cr := r.Header.Get("Content-Range"); cr != fmt.Sprintf("bytes %d-%d/%d", from, to-1, 4*layerSize) {
		t.Errorf("Content-Range %q", cr)
	}
	s.up.Pace(24 * mib) // slow enough that what was sent is not in sockets whose connections end
	s.up.Release()
	s.wantBlob("app/api", layer)
	s.settle()
	if n := s.up.BlobBytes(layer); n > img.Layers[0].Size*13/10 {
		t.Errorf("upstream sent %d bytes for a blob of %d", n, img.Layers[0].Size)
	}
}

func TestContainerdsParallelRanges(t *testing.T) {
	s := newStory(t, onDir)
	s.up.Pace(48 * mib)
	const size, chunk = 4 * layerSize, 8 * mib
	_, layer := s.oneLayer(size)
	want := s.up.Blob("team/api", layer)
	var wg sync.WaitGroup
	work := make(chan int64)
	for range 4 {
		wg.Go(func() {
			for off := range work {
				req, _ := http.NewRequestWithContext(t.Context(), "GET", s.web.URL+"/v2/app/api/blobs/"+layer.String(), nil)
				req.Header.Set("Range", fmt.Sprintf("bytes=%d-", off))
				resp, err := s.web.Client().Do(req)
				if err != nil {
					t.Error(err)
					continue
				}
				buf := make([]byte, min(chunk, size-off))
				_, err = io.ReadFull(resp.Body, buf)
				_ = resp.Body.Close() // early
				if err != nil || resp.StatusCode != 206 || !bytes.Equal(buf, want[off:off+int64(len(buf))]) {
					t.Errorf("chunk at %d: status %d, %v", off, resp.StatusCode, err)
				}
			}
		})
	}
	for off := int64(0); off < size; off += chunk {
		work <- off
	}
	close(work)
	wg.Wait()
	s.settle()
	if n := s.up.BlobBytes(layer); n > size*13/10 {
		t.Errorf("upstream sent %d bytes for %d: %.2f x", n, size, float64(n)/size)
	}
	s.up.Stop()
	s.wantBlob("app/api", layer)
}

func TestCutIsResumed(t *testing.T) {
	s := newStory(t, onDir, oneConnection)
	layer := s.oneBlob(layerSize)
	s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Reference: layer.String(), Cut: layerSize / 2, Times: 1})
	s.wantBlob("app/api", layer)
	if n := s.up.BlobBytes(layer); n > layerSize+mib { // what was in socket buffers at the cut is lost
		t.Errorf("upstream sent %d bytes for %d", n, layerSize)
	}
	if n := s.gets(layer); n != 2 {
		t.Errorf("%d upstream GETs, want 2", n)
	}
}

func TestWrongBitIsNeverServedWhole(t *testing.T) {
	for name, at := range map[string]int64{"first": 0, "middle": layerSize / 2, "last": layerSize - 1} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, onDir, oneConnection) // another one would bring the right bit
			layer := s.oneBlob(layerSize)
			s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Reference: layer.String(), Flip: true, FlipAt: at, Times: 1})
			if r := s.blob("app/api", layer); r.err == nil && r.StatusCode == 200 {
				t.Errorf("a clean end after %d wrong bytes", len(r.body))
			}
			s.up.Heal()
			s.wantBlob("app/api", layer)
		})
	}
	t.Run("small", func(t *testing.T) {
		s := newStory(t)
		layer := s.oneBlob(1000)
		s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Flip: true, FlipAt: 999, Times: 1})
		s.wantError(s.blob("app/api", layer), 502, "UNKNOWN")
		s.wantBlob("app/api", layer)
	})
	t.Run("without a length", func(t *testing.T) {
		s := newStory(t)
		data := upstreamtest.Bytes(7, mib)
		layer := s.up.AddBlob("team/api", data)
		s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Flip: true, FlipAt: mib - 1, NoLength: true, Times: 1})
		if r := s.blob("app/api", layer); r.err == nil && r.StatusCode == 200 {
			t.Errorf("a clean end after %d wrong bytes", len(r.body))
		}
		s.wantBlob("app/api", layer)
	})
}

func TestUpstreamWithoutLengthStillGivesOne(t *testing.T) {
	s := newStory(t)
	s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", NoLength: true})
	_, layer := s.oneLayer(mib)
	if r := s.wantBlob("app/api", layer); r.ContentLength != mib {
		t.Errorf("Content-Length %d, want what the manifest says", r.ContentLength)
	}
}

func TestWrongLengthIsRefused(t *testing.T) {
	s := newStory(t)
	s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", WrongLength: 10})
	_, layer := s.oneLayer(mib)
	s.wantError(s.blob("app/api", layer), 502, "UNKNOWN")
}

func TestRangesOfAStoredBlob(t *testing.T) {
	for _, dir := range []bool{true, false} {
		t.Run(fmt.Sprint("dir=", dir), func(t *testing.T) {
			s := newStory(t)
			if dir {
				s = newStory(t, onDir)
			}
			img, layer := s.oneLayer(mib)
			want := s.up.Blob("team/api", layer)
			s.pullBlobs("app/api", img)
			s.settle()
			for header, span := range map[string][2]int{"bytes=0-": {0, mib}, "bytes=5-9": {5, 10}, "bytes=-7": {mib - 7, mib}} {
				r := s.blob("app/api", layer, "Range", header)
				if r.StatusCode != 206 || !bytes.Equal(r.body, want[span[0]:span[1]]) {
					t.Errorf("%s: status %d, %d bytes", header, r.StatusCode, len(r.body))
				}
			}
			if r := s.blob("app/api", layer, "Range", "bytes=2000000-"); r.StatusCode != 416 {
				t.Errorf("status %d outside of the blob, want 416", r.StatusCode)
			}
			if r := s.blob("app/api", layer, "If-None-Match", `"`+layer.String()+`"`); r.StatusCode != 304 || len(r.body) != 0 {
				t.Errorf("status %d for If-None-Match, want 304", r.StatusCode)
			}
			if r := s.get("/v2/app/api/manifests/v1", "Range", "bytes=0-"); r.StatusCode != 206 && r.StatusCode != 200 || !bytes.Equal(r.body, img.Manifest) {
				t.Errorf("status %d for a manifest by range", r.StatusCode)
			}
		})
	}
}

func TestSeveralRangesOfAColdBlob(t *testing.T) {
	s := newStory(t)
	_, layer := s.oneLayer(mib)
	r := s.blob("app/api", layer, "Range", "bytes=1-2,100-200")
	if r.StatusCode != 206 || !bytes.Contains(r.body, s.up.Blob("team/api", layer)[100:201]) || !bytes.Contains(r.body, []byte("bytes 100-200/1048576")) {
		t.Errorf("status %d, %s, %d bytes", r.StatusCode, r.Header.Get("Content-Type"), len(r.body))
	}
}

func TestUpstreamThatIgnoresRanges(t *testing.T) {
	s := newStory(t, onDir)
	layer := s.oneBlob(layerSize)
	s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Cut: layerSize / 2, Times: 1})
	s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", IgnoreRange: true})
	s.wantBlob("app/api", layer)
	s2 := newStory(t, onDir)
	layer = s2.oneBlob(layerSize)
	s2.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Cut: layerSize / 2, Times: 1})
	s2.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", ShiftRange: 10, Times: 1})
	s2.wantBlob("app/api", layer)
}

func TestBrokenEndIsSeenBehindAMiddlewareThatSwallowsPanics(t *testing.T) {
	s := newStory(t, onDir)
	s.web.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { _ = recover() }()
		s.cache.ServeHTTP(w, r)
	})
	layer := s.oneBlob(layerSize)
	s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Flip: true, FlipAt: 5, Times: 1})
	if r := s.blob("app/api", layer); r.err == nil && r.StatusCode == 200 {
		t.Errorf("a clean end after %d bytes", len(r.body))
	}
	data := upstreamtest.Bytes(8, 2*mib) // of unknown size: chunked
	s.up.AddBlob("team/api", data)
	s.up.Pace(4 * mib)
	s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Flip: true, FlipAt: 5, NoLength: true, Times: 1})
	if r := s.blob("app/api", digest.FromBytes(data)); r.err == nil && r.StatusCode == 200 {
		t.Errorf("a clean end after %d bytes of a chunked body", len(r.body))
	}
}
