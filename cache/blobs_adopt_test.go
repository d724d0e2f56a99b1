package cache_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// storage is a host to which an upstream leads with blobs. It has layer for those who
// want all of it, and answers parts and HEAD with h.
func (s *story) storage(layer []byte, h http.HandlerFunc) upstreamtest.Fault {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.Header.Get("Range") == "" {
			_, _ = w.Write(layer)
			return
		}
		h(w, r)
	}))
	s.Cleanup(srv.Close)
	return upstreamtest.Fault{Kind: "blob", Redirect: srv.URL}
}

// serve has the content, in parts too.
func serve(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

func says(header, value string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(header, value) }
}

// breaksOff announces a part, and sends less of it.
func breaksOff(w http.ResponseWriter, r *http.Request) {
	first, last, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
	w.Header().Set("Content-Range", "bytes "+first+"-"+last+"/*")
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write([]byte("x"))
}

// Bytes that another repository has are linked where the upstream's own host says
// that it has them, or where parts of them come from where it leads to. Everything else
// is a download, and no client is told which of them it was.
func TestAdoptAsksHomeAndCompares(t *testing.T) {
	const size = 100_000
	layer := upstreamtest.Bytes(5, size)
	other := bytes.Repeat([]byte{7}, size)
	home := func(h http.HandlerFunc) func(*story) upstreamtest.Fault {
		return func(*story) upstreamtest.Fault { return upstreamtest.Fault{Kind: "blob", Method: "HEAD", Do: h} }
	}
	elsewhere := func(h http.HandlerFunc) func(*story) upstreamtest.Fault {
		return func(s *story) upstreamtest.Fault { return s.storage(layer, h) }
	}
	for name, c := range map[string]struct {
		fault   func(*story) upstreamtest.Fault
		adopted bool
	}{
		"home says the length":      {home(says("Content-Length", strconv.Itoa(size))), true},
		"home says another length":  {home(says("Content-Length", strconv.Itoa(size-1))), false},
		"home says another digest":  {home(says("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))), false},
		"home refuses":              {home(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }), false},
		"the bytes are there":       {elsewhere(serve(layer)), true},
		"other bytes are there":     {elsewhere(serve(other)), false},
		"there are more of them":    {elsewhere(serve(append(layer[:size:size], 'x'))), false},
		"yes is said to all":        {elsewhere(func(http.ResponseWriter, *http.Request) {}), false},
		"the length is said":        {elsewhere(says("Content-Length", strconv.Itoa(size))), false},
		"parts are not known there": {elsewhere(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(layer) }), false},
		"parts break off":           {elsewhere(breaksOff), false},
		"parts are refused":         {elsewhere(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }), false},
		"it leads nowhere with HEAD": {home(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(307)
		}), true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			s.pull("app/one", "v1", s.up.AddImage("team/one", "v1", [][]byte{layer}))
			s.settle()
			two := s.up.AddImage("team/two", "v1", [][]byte{layer})
			s.up.Fail(c.fault(s))
			path := "/v2/app/two/blobs/" + two.Layers[0].Digest.String()
			r := s.get(path)
			if r.StatusCode != 200 || !bytes.Equal(r.body, layer) {
				t.Fatalf("%d, %d bytes", r.StatusCode, len(r.body))
			}
			if state := r.Header.Get("Cache-Status"); !strings.HasSuffix(state, "; fwd=miss; stored") {
				t.Errorf("Cache-Status: %s tells more than that it was not here", state)
			}
			if got := s.cache.Stats().Adopted == 1; got != c.adopted {
				t.Errorf("adopted: %v, want %v", got, c.adopted)
			}
			s.settle()
			s.up.Stop()
			s.wantBlob("app/two", two.Layers[0].Digest)
		})
	}
}

// Nothing is compared of what is as short as the parts.
func TestSmallBlobsOfAStorageAreDownloaded(t *testing.T) {
	s := newStory(t)
	layer := upstreamtest.Bytes(5, 8<<10)
	s.pull("app/one", "v1", s.up.AddImage("team/one", "v1", [][]byte{layer}))
	s.settle()
	two := s.up.AddImage("team/two", "v1", [][]byte{layer})
	s.up.Fail(s.storage(layer, serve(layer)))
	s.wantBlob("app/two", two.Layers[0].Digest)
	if n := s.cache.Stats().Adopted; n != 0 {
		t.Errorf("%d blobs were adopted", n)
	}
}

// What a storage does with parts says nothing about how the host answers HEAD: the
// host is asked about the next blob too.
func TestWhatAStorageRefusesIsNoRefusalOfHead(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"403":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"breaks off": breaksOff,
		"other":      serve(bytes.Repeat([]byte{7}, 100_000)),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			layers := upstreamtest.Layers(2, 100_000)
			s.pull("app/one", "v1", s.up.AddImage("team/one", "v1", layers))
			s.settle()
			two := s.up.AddImage("team/two", "v1", layers)
			for i, l := range two.Layers {
				f := s.storage(layers[i], h)
				f.Reference = l.Digest.String()
				s.up.Fail(f)
			}
			s.up.Reset()
			for _, l := range two.Layers {
				s.wantBlob("app/two", l.Digest)
			}
			if n := s.up.Count("HEAD", "blob", ""); n != 2 {
				t.Errorf("the host was asked by HEAD %d times, want once for each blob", n)
			}
		})
	}
}
