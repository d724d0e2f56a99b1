package cache_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	orasremote "oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestTransport: a registry client pulls through a cache that listens nowhere.
func TestTransport(t *testing.T) {
	c, up := cachetest.New(t)
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(3, 100<<10))
	repo, err := orasremote.NewRepository("cache.example.com/hub/team/api")
	if err != nil {
		t.Fatal(err)
	}
	repo.Client = &auth.Client{Client: &http.Client{Transport: c.Transport()}}
	desc, err := oras.Copy(t.Context(), repo, "v1", memory.New(), "v1", oras.DefaultCopyOptions)
	if err != nil || desc.Digest != img.Digest {
		t.Fatalf("%v, %v", desc, err)
	}
}

// get asks through the transport of a cache.
func get(ctx context.Context, c *cache.Cache, method, path string, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://cache.example.com"+path, nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return (&http.Client{Transport: c.Transport()}).Do(req)
}

// TestTransportStreams: the header comes before the body, a body of several reads comes
// whole, and a HEAD has none.
func TestTransportStreams(t *testing.T) {
	c, up := cachetest.New(t)
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1<<20))
	path := "/v2/hub/team/api/blobs/" + img.Layers[0].Digest.String()
	for _, method := range []string{"GET", "HEAD", "GET"} {
		resp, err := get(t.Context(), c, method, path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want := img.Layers[0].Size; err != nil || resp.ContentLength != want || method == "GET" && int64(len(data)) != want || method == "HEAD" && len(data) != 0 {
			t.Errorf("%s: %d of %d bytes, %v", method, len(data), resp.ContentLength, err)
		}
	}
	resp, err := get(t.Context(), c, "GET", path, "Range", "bytes=10-19")
	if err != nil || resp.StatusCode != http.StatusPartialContent || resp.ContentLength != 10 {
		t.Errorf("%+v, %v", resp, err)
	}
	_ = resp.Body.Close()
	if resp, err = get(t.Context(), c, "GET", "/v2/hub/team/api/manifests/v9"); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("%+v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

// TestTransportCut: a response that cannot be finished ends with an error, and a client
// that leaves ends its handler.
func TestTransportCut(t *testing.T) {
	c, up := cachetest.New(t)
	done := make(chan cache.Outcome, 10)
	c.Observe = func(_ *http.Request, o cache.Outcome) { done <- o }
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(1, 4<<20))
	path := "/v2/hub/team/api/blobs/" + img.Layers[0].Digest.String()
	up.Fail(upstreamtest.Fault{Kind: "blob", Flip: true, FlipAt: 2 << 20, Stall: 3 << 20})
	resp, err := get(t.Context(), c, "GET", path) // the header is out
	if err != nil {
		t.Fatal(err)
	}
	up.Release()
	if n, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
	<-done
	up.Heal()
	up.Fail(upstreamtest.Fault{Kind: "blob", Stall: 100 << 10})
	ctx, cancel := context.WithCancel(t.Context())
	if resp, err = get(ctx, c, "GET", path); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = resp.Body.Close()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("the handler does not end")
	}
	if _, err := get(ctx, c, "GET", path); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestTransportBody: what has a body is refused like everywhere, and the body is closed.
func TestTransportBody(t *testing.T) {
	c, _ := cachetest.New(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://cache.example.com/v2/hub/x/blobs/uploads/", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Transport().RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Fatalf("%+v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

// TestTransportStatus: the status of a response reads as that of net/http.
func TestTransportStatus(t *testing.T) {
	c, _ := cachetest.New(t)
	for path, want := range map[string]string{"/v2/": "200 OK", "/v2/hub/team/api/manifests/v1": "404 Not Found"} {
		resp, err := get(t.Context(), c, "GET", path)
		if err != nil {
			t.Fatal(err)
		}
		if _ = resp.Body.Close(); resp.Status != want {
			t.Errorf("%s: %q, want %q", path, resp.Status, want)
		}
	}
}

// TestTransportOfAHookThatPanics: the panic reaches the caller of the client, as it would
// without a transport, and ends no other goroutine.
func TestTransportOfAHookThatPanics(t *testing.T) {
	c, _ := cachetest.New(t)
	c.Authorize = func(*http.Request, cache.Access) error { panic("a bug of the embedder") }
	defer func() {
		if v := recover(); v != "a bug of the embedder" {
			t.Errorf("recovered %v", v)
		}
	}()
	if resp, err := get(t.Context(), c, "GET", "/v2/"); err == nil {
		_ = resp.Body.Close()
	}
	t.Error("no panic")
}

// TestTransportOfAHandlerThatPanicsLate: after the header, the body ends with an error.
func TestTransportOfAHandlerThatPanicsLate(t *testing.T) {
	c, _ := cachetest.New(t)
	c.Next = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("begun"))
		panic("a bug of the embedder")
	})
	resp, err := get(t.Context(), c, "GET", "/v2/own/x/manifests/v1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if data, err := io.ReadAll(resp.Body); err == nil || string(data) != "begun" || !strings.Contains(err.Error(), "a bug of the embedder") {
		t.Errorf("%q, %v", data, err)
	}
}
