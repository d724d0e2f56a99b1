package azure_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// cached is a scene behind a cache.
type cached struct {
	*scene
	rules *rule.Set
	cache *cache.Cache
	web   *httptest.Server // nil if requests need no sockets
}

// serve puts a cache with these rules in front of the scene, over HTTP on
// loopback.
func (s *scene) serve(rules ...rule.Rule) *cached {
	s.t.Helper()
	c := s.inMemory(rules...)
	c.web = httptest.NewServer(c.cache)
	s.t.Cleanup(func() {
		c.web.CloseClientConnections()
		c.web.Close()
	})
	return c
}

// inMemory puts a cache in front of the scene that serves requests without sockets.
func (s *scene) inMemory(rules ...rule.Rule) *cached {
	s.t.Helper()
	set, err := rule.NewSet(rules...)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &cached{scene: s, rules: set, cache: &cache.Cache{Rules: set, Store: &store.Mem{}, Upstream: s.up}}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.cache.Shutdown(ctx); err != nil {
			s.t.Error("Shutdown:", err)
		}
	})
	return c
}

// reply is a response that was read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
	err    error // of reading
}

func (c *cached) do(method, path string, header ...string) reply {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url(path), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if c.web == nil {
		return c.answer(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, body, err}
}

func (c *cached) url(path string) string {
	if c.web == nil {
		return "http://localhost:5000/v2/" + path
	}
	return c.web.URL + "/v2/" + path
}

// answer sends a request to the cache in memory. A response that breaks off has an error.
func (c *cached) answer(req *http.Request) (r reply) {
	w := httptest.NewRecorder()
	defer func() {
		p := recover()
		if p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
		r = reply{w.Code, w.Header(), w.Body.Bytes(), nil}
		if p != nil {
			r.err = io.ErrUnexpectedEOF
		}
	}()
	c.cache.ServeHTTP(w, req)
	return r
}

func manifests(repository, reference string) string {
	return repository + "/manifests/" + reference
}

func blobs(repository string, d digest.Digest) string { return repository + "/blobs/" + d.String() }

func (c *cached) wantManifest(repository, reference string, img upstreamtest.Image) reply {
	c.t.Helper()
	r := c.do("GET", manifests(repository, reference))
	if r.status != http.StatusOK || !bytes.Equal(r.body, img.Manifest) {
		c.t.Fatalf("%s:%s: %d %s", repository, reference, r.status, r.body)
	}
	return r
}

func (c *cached) wantBlob(repository string, d digest.Digest) reply {
	c.t.Helper()
	r := c.do("GET", blobs(repository, d))
	if r.status != http.StatusOK || r.err != nil || digest.FromBytes(r.body) != d {
		c.t.Fatalf("%s@%s: %d, %d bytes, %v", repository, d, r.status, len(r.body), r.err)
	}
	return r
}

// pullImage pulls an image as a client does.
func (c *cached) pullImage(repository, tag string, img upstreamtest.Image) {
	c.t.Helper()
	c.wantManifest(repository, tag, img)
	c.wantBlob(repository, img.Config.Digest)
	for _, l := range img.Layers {
		c.wantBlob(repository, l.Digest)
	}
}

// wantDenied checks that the response is a 403 with these words.
func (c *cached) wantDenied(method, path string, words ...string) {
	c.t.Helper()
	r := c.do(method, path)
	if r.status != http.StatusForbidden || method == "GET" && !strings.Contains(string(r.body), `"code":"DENIED"`) {
		c.t.Errorf("%s %s: %d %.200q, want 403 DENIED", method, path, r.status, r.body)
	}
	for _, w := range words {
		if !strings.Contains(string(r.body), w) {
			c.t.Errorf("%s %s does not say %q: %s", method, path, w, r.body)
		}
	}
}

// until waits for a condition, and fails if it does not come true.
func (c *cached) until(what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: it never came to that; copies: %+v", what, c.cache.Copies())
		}
	}
}

// settle waits until every copy is complete.
func (c *cached) settle() {
	c.t.Helper()
	c.until("copies end", func() bool { return len(c.cache.Copies()) == 0 && c.cache.Stats().Downloads == 0 })
}

// hold is a download of a blob that stops half way.
type hold struct {
	reached chan struct{} // closed when half of it was sent
	once    sync.Once
	release func()
}

// hold makes the next download of a blob stop half way until it is released. Then the
// rest follows, or, with cut, the connection breaks.
func (s *scene) hold(repository string, d digest.Digest, cut bool) *hold {
	body, open := s.registry.Content.Blob(repository, d), make(chan struct{})
	h := &hold{reached: make(chan struct{})}
	h.release = func() { h.once.Do(func() { close(open) }) }
	s.t.Cleanup(h.release)
	s.registry.Content.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Repository: repository, Reference: d.String(), Times: 1, Do: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		close(h.reached)
		select {
		case <-open:
		case <-r.Context().Done():
		}
		if cut {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(body[len(body)/2:])
	}})
	return h
}

// download is a response that a client has begun to read.
type download struct {
	digest digest.Digest
	first  []byte
	body   io.ReadCloser
}

// begin requests a blob and reads the beginning.
func (c *cached) begin(repository string, d digest.Digest) *download {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), "GET", c.url(blobs(repository, d)), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = resp.Body.Close() })
	first := make([]byte, 100<<10)
	if n, err := io.ReadFull(resp.Body, first); err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %d, %d bytes, %v", d, resp.StatusCode, n, err)
	}
	return &download{d, first, resp.Body}
}

// end reads the rest.
func (d *download) end() (whole bool, err error) {
	rest, err := io.ReadAll(d.body)
	return digest.FromBytes(append(d.first, rest...)) == d.digest, err
}

// downloading begins a pull of an image with one big layer, and returns when
// nothing but the held download is under way.
func (c *cached) downloading(repository, tag string, img upstreamtest.Image, h *hold) *download {
	c.t.Helper()
	c.wantManifest(repository, tag, img)
	c.wantBlob(repository, img.Config.Digest)
	d := c.begin(repository, img.Layers[0].Digest)
	<-h.reached
	c.until("one download is left", func() bool { return c.cache.Stats().Downloads == 1 })
	return d
}

// wantUnused checks that no call since the last Reset holds one of the secrets.
func (s *scene) wantUnused(old []azuretest.Secret) {
	s.t.Helper()
	for _, call := range s.Calls() {
		for _, secret := range old {
			if strings.Contains(call.Text(), secret.Text) {
				s.t.Errorf("%s %s%s (%s) shows a %s of before", call.Method, call.Host, call.URL.Path, call.Endpoint, secret.What)
			}
		}
	}
}

// wantAsked compares the identities for which tokens were requested from the machine
// since the last Reset.
func (s *scene) wantAsked(want ...string) {
	s.t.Helper()
	var got []string
	for _, call := range s.Calls() {
		if call.Endpoint == azuretest.IMDS {
			got = append(got, call.URL.Query().Get("msi_res_id"))
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		s.t.Errorf("the machine was asked for %q, want %q", got, want)
	}
}
