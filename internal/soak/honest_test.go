package soak

import (
	"context"
	"crypto/x509"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// deadAddress is an address at which no server listens.
const deadAddress = "127.0.0.1:1"

// bigBlob is the size of a layer of a stranger's image that no buffer of a socket holds.
const bigBlob = 24 << 20

// home is the honest tenant's host, on which strangers have repositories too. It uses HTTP/2,
// as large registries do, so that all tenants share a connection to it, and it accepts
// headers of up to 64 KiB.
type home struct {
	*upstreamtest.Registry
	host  string
	roots *x509.CertPool
	web   *httptest.Server
	open  upstreamtest.Image // a stranger's image that works

	mu     sync.Mutex
	images []upstreamtest.Image // of the honest tenant, since forget
}

func newHome(t *testing.T) *home {
	h := &home{Registry: upstreamtest.NewHandler()}
	h.web = httptest.NewUnstartedServer(h.Registry)
	h.web.EnableHTTP2 = true
	h.web.Config.MaxHeaderBytes = 64 << 10
	h.web.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.web.StartTLS()
	t.Cleanup(h.web.Close)
	h.host = h.web.Listener.Addr().String()
	h.roots = x509.NewCertPool()
	h.roots.AddCert(h.web.Certificate())
	h.open = h.AddImage("open/good", "v1", [][]byte{upstreamtest.Bytes(99, bigBlob)})
	for _, f := range []upstreamtest.Fault{
		{Repository: "open/gone", Redirect: "https://" + deadAddress + "/x"},
		{Repository: "open/busy", Status: http.StatusServiceUnavailable, RetryAfter: "86400"},
		{Repository: "open/mute", Hang: true},
		{Repository: "open/cut", Do: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{Repository: "greedy/all", Status: http.StatusTooManyRequests, RetryAfter: "86400"},
	} {
		h.Fail(f)
	}
	return h
}

func (h *home) down() { h.web.CloseClientConnections(); h.web.Close() }

// publish adds an image of the honest tenant, to which no tag points yet.
func (h *home) publish(repo string, serial uint64) upstreamtest.Image {
	layers := [][]byte{upstreamtest.Bytes(uint64(len(repo)), 256<<10), upstreamtest.Bytes(serial<<8|1, 48<<10)}
	img := h.AddImage("team/"+repo, "", layers)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.images = append(h.images, img)
	return img
}

// forget removes blobs of images that were copied, and the log of requests, from the registry.
func (h *home) forget() {
	h.Reset()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, img := range h.images {
		for _, d := range append([]ocispec.Descriptor{img.Config}, img.Layers[1:]...) {
			h.Delete(img.Repository, d.Digest)
		}
	}
	h.images = nil
}

// honest is the tenant that nothing may affect.
type honest struct {
	s       *stage
	tags    []*tag
	serial  uint64
	moves   atomic.Int64
	clients []*http.Client

	mu     sync.Mutex
	pulled map[digest.Digest]upstreamtest.Image
}

// tag is a tag at the upstream, with the images to which it pointed, and when.
type tag struct {
	repo, name string

	mu       sync.Mutex
	versions []version
}

type version struct {
	upstreamtest.Image
	from, until time.Time // no earlier and no later than that; until is zero now
}

func newHonest(s *stage) *honest {
	h := &honest{s: s, pulled: map[digest.Digest]upstreamtest.Image{}}
	for range honestClients {
		h.clients = append(h.clients, newClient())
	}
	for _, repo := range []string{"api", "jobs", "webui"} {
		for _, name := range []string{"v1", "latest"} {
			t := &tag{repo: repo, name: name}
			h.tags = append(h.tags, t)
			h.move(t)
		}
	}
	return h
}

func (h *honest) closeIdle() {
	for _, c := range h.clients {
		c.CloseIdleConnections()
	}
}

// refresh moves all tags, since the host has removed the images to which they pointed in an
// earlier phase.
func (h *honest) refresh() {
	for _, t := range h.tags {
		h.move(t)
	}
}

// moveTags moves a random tag from time to time.
func (h *honest) moveTags(end time.Time) {
	r := h.s.random(1000 + h.serial)
	ticker := time.NewTicker(150 * time.Millisecond)
	defer ticker.Stop()
	for time.Now().Before(end) {
		<-ticker.C
		h.move(h.tags[r.IntN(len(h.tags))])
		h.s.home.Reset() // its log of requests would grow
	}
}

func (h *honest) move(t *tag) {
	h.serial++
	h.moves.Add(1)
	img := h.s.home.publish(t.repo, h.serial)
	t.mu.Lock()
	t.versions = append(t.versions, version{Image: img, from: time.Now()})
	t.mu.Unlock()
	h.s.home.Tag("team/"+t.repo, t.name, img.Digest)
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.versions); n > 1 {
		t.versions[n-2].until = time.Now()
	}
}

// imageBetween finds the image of a digest to which the tag pointed, and how long before begun
// it was the tag's last, or 0 if that was at some time between begun and ended. A client may
// receive the result of a tag check that another client caused before; a check that takes longer
// than Limits.StaleTimeout ends as fwd=stale, which is a failure by itself.
func (t *tag) imageBetween(d digest.Digest, begun, ended time.Time) (img upstreamtest.Image, old time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range t.versions {
		if v.Digest != d || v.from.After(ended) {
			continue
		}
		img, old, ok = v.Image, 0, true
		if !v.until.IsZero() && !v.until.After(begun.Add(-stale)) {
			old = begun.Sub(v.until)
		}
	}
	return img, old, ok
}

// pull is one client.
func (h *honest) pull(number uint64, end time.Time, l *latencies) {
	r := h.s.random(number<<32 + h.serial)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for time.Now().Before(end) {
		<-ticker.C
		h.pullImage(r, h.clients[number], l)
	}
}

// pullImage pulls an image by tag as clients do, and sometimes lists the tags.
func (h *honest) pullImage(r *rand.Rand, client *http.Client, l *latencies) {
	t := h.tags[r.IntN(len(h.tags))]
	if r.IntN(10) == 0 {
		body, ok := h.get(client, "/v2/app/"+t.repo+"/tags/list", l)
		if ok && !strings.Contains(string(body), `"`+t.name+`"`) {
			h.s.wrong.add("the list of tags of app/%s lacks %s: %.100s", t.repo, t.name, body)
		}
	}
	begun := time.Now()
	body, ok := h.get(client, "/v2/app/"+t.repo+"/manifests/"+t.name, l)
	if !ok {
		return
	}
	img, old, ok := t.imageBetween(digest.FromBytes(body), begun, time.Now())
	if !ok {
		h.s.wrong.add("app/%s:%s is answered by %s, which it never was", t.repo, t.name, digest.FromBytes(body))
		return
	}
	if old > 0 {
		h.s.late.add("app/%s:%s is answered by %s, which it was until %v before the pull", t.repo, t.name, digest.FromBytes(body), old)
		return
	}
	for _, d := range append([]ocispec.Descriptor{img.Config}, img.Layers...) {
		body, ok := h.get(client, "/v2/app/"+t.repo+"/blobs/"+d.Digest.String(), l)
		if !ok {
			return
		}
		if digest.FromBytes(body) != d.Digest {
			h.s.wrong.add("app/%s@%s has other bytes", t.repo, d.Digest)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pulled[img.Digest] = img
}

// get sends a request for which the response must be 200, and not stale.
func (h *honest) get(client *http.Client, path string, l *latencies) (body []byte, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.s.web.URL+path, nil)
	if err != nil {
		h.s.wrong.add("%v", err)
		return nil, false
	}
	begun := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		h.s.late.add("%s: %v", path, err)
		return nil, false
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	took := time.Since(begun)
	if l != nil {
		l.add(took)
	}
	state := resp.Header.Get("Cache-Status")
	if resp.StatusCode != http.StatusOK || err != nil || strings.Contains(state, "fwd=stale") {
		about := &h.s.late
		if resp.StatusCode/100 == 4 && resp.StatusCode != http.StatusTooManyRequests {
			about = &h.s.wrong // no machine is too busy to know what it has
		}
		about.add("%s: %d %v after %v, %s: %.200q", path, resp.StatusCode, err, took.Round(time.Millisecond), state, body)
		return nil, false
	}
	return body, true
}

// wantAllStored pulls every image that was pulled before once more, by digest and with its
// upstream down: all of them must have been copied.
func (h *honest) wantAllStored() {
	h.s.Helper()
	for d, img := range h.pulled {
		repo := "/v2/app/" + strings.TrimPrefix(img.Repository, "team/")
		for _, path := range []string{"/manifests/" + d.String(), "/blobs/" + img.Config.Digest.String(), "/blobs/" + img.Layers[1].Digest.String()} {
			body, ok := h.get(h.clients[0], repo+path, nil)
			if ok && !strings.HasSuffix(path, digest.FromBytes(body).String()) {
				h.s.wrong.add("%s%s has other bytes when the upstream is gone", repo, path)
			}
		}
	}
	h.closeIdle()
}

// someLayer returns a layer of the tenant that the cache has.
func (h *honest) someLayer(r *rand.Rand) digest.Digest {
	t := h.tags[r.IntN(len(h.tags))]
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.versions[len(t.versions)-1].Layers[0].Digest
}
