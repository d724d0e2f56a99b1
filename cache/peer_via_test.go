package cache_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// relay is an Opener whose blobs come out of memory where it has them: in the name of another
// cache, or of the upstream if via is empty.
type relay struct {
	upstream.Opener
	via   string
	pause time.Duration // before each piece of a body

	mu    sync.Mutex
	have  map[digest.Digest][]byte
	hints []upstream.Hint // of each request for a blob
}

func (o *relay) Open(s upstream.Source, a auth.Authenticator) (upstream.Repository, error) {
	r, err := o.Opener.Open(s, a)
	return relayed{r, o}, err
}

func (o *relay) add(contents ...[]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, content := range contents {
		o.have[digest.FromBytes(content)] = content
	}
}

func (o *relay) asked() []upstream.Hint {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.hints)
}

// relayed is a repository of a relay.
type relayed struct {
	upstream.Repository
	relay *relay
}

func (r relayed) Blob(ctx context.Context, d digest.Digest, offset, length int64) (upstream.Body, error) {
	o := r.relay
	o.mu.Lock()
	o.hints = append(o.hints, upstream.HintOf(ctx))
	content, ok := o.have[d]
	o.mu.Unlock()
	if !ok {
		return r.Repository.Blob(ctx, d, offset, length)
	}
	rest := content[offset:]
	if length >= 0 {
		rest = rest[:length]
	}
	return upstream.Body{ReadCloser: io.NopCloser(&paced{bytes.NewReader(rest), o.pause}), Offset: offset, Length: int64(len(rest)), Size: int64(len(content)), Via: o.via}, nil
}

// paced pauses before each piece of 64 KiB.
type paced struct {
	io.Reader
	pause time.Duration
}

func (p *paced) Read(b []byte) (int, error) {
	time.Sleep(p.pause)
	return p.Reader.Read(b[:min(len(b), 64<<10)])
}

// relaying lets a relay stand before the upstream.
func relaying(o *relay) func(*clock) {
	return func(c *clock) {
		o.Opener, o.have = c.cache.Upstream, map[digest.Digest][]byte{}
		c.cache.Upstream = o
	}
}

// TestBlobsOfAnotherCache: what another cache sends is shown as such, counts as nothing that
// upstreams sent, and is stored like what they send.
func TestBlobsOfAnotherCache(t *testing.T) {
	o := &relay{via: "10.0.0.7:5443", pause: time.Millisecond}
	var mu sync.Mutex
	var seen []cache.Outcome
	inBubble(t, func(c *clock) {
		for _, size := range []int{1000, 20 << 20} {
			content := upstreamtest.Bytes(uint64(size), size)
			d := c.up.AddBlob("team/api", content)
			o.add(content)
			var wg sync.WaitGroup
			states := make(chan string, 2)
			for range 2 {
				wg.Go(func() {
					w := c.response("GET", "app/api/blobs/"+d.String())
					if w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), content) {
						t.Errorf("status %d, %d bytes", w.Code, w.Body.Len())
					}
					states <- w.Header().Get("Cache-Status")
				})
			}
			wg.Wait()
			got := []string{<-states, <-states}
			slices.Sort(got)
			if strings.Join(got, " ") != "pullthrough; fwd=miss; collapsed; detail=peer pullthrough; fwd=miss; stored; detail=peer" {
				t.Errorf("Cache-Status %q", got)
			}
			c.pass(time.Minute)
			if w := c.response("GET", "app/api/blobs/"+d.String()); w.Header().Get("Cache-Status") != "pullthrough; hit" {
				t.Errorf("the next pull: %q", w.Header().Get("Cache-Status"))
			}
			if n := c.blobs(d); n != 0 {
				t.Errorf("the upstream was asked %d times", n)
			}
		}
		if s := c.cache.Stats(); s.BlobConnections != 0 || s.BytesFetched != 0 || s.Segments != 0 || s.Followers != 2 {
			t.Errorf("%+v", s)
		}
		for i, h := range o.asked() {
			if h != (upstream.Hint{Repository: "app/api", Size: -1}) {
				t.Errorf("request %d: hint %+v", i, h)
			}
		}
		if n := len(o.asked()); n != 2 {
			t.Errorf("%d requests for two blobs", n)
		}
	}, relaying(o), func(c *clock) {
		c.cache.Observe = func(_ *http.Request, out cache.Outcome) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, out)
		}
	})
	for i, out := range seen {
		if hit := i%3 == 2; hit != (out.Result == cache.ResultHit) || !hit && (out.Result != cache.ResultMiss || out.Detail != "peer" || out.UpstreamStatus != 0) {
			t.Errorf("outcome %d: %s %d %q", i, out.Result, out.UpstreamStatus, out.Detail)
		}
	}
}

// TestCopyOfAnotherCache: a copy tells its Opener the sizes of blobs, and is whole without a
// request for a blob at the upstream.
func TestCopyOfAnotherCache(t *testing.T) {
	o := &relay{via: "peer"}
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 100_000))
		sizes := map[int64]bool{}
		for _, d := range blobsOf(img) {
			o.add(c.up.Blob("team/api", d.Digest))
			sizes[d.Size] = true
		}
		c.manifest("v1")
		c.pass(time.Minute)
		if s := c.cache.Stats(); s.Copied != 1 || s.BlobConnections != 0 || s.BytesFetched != int64(len(img.Manifest)) {
			t.Errorf("%d copied, %d connections, %d bytes", s.Copied, s.BlobConnections, s.BytesFetched)
		}
		for _, h := range o.asked() {
			if h.Repository != "app/api" || !sizes[h.Size] {
				t.Errorf("hint %+v", h)
			}
		}
		if n := len(o.asked()); n != 3 {
			t.Errorf("%d requests for three blobs", n)
		}
	}, relaying(o))
}

// TestConnectionsAreRequestsForBlobs: to look whether the rule still stands, as each
// checkpoint of a download does, is none.
func TestConnectionsAreRequestsForBlobs(t *testing.T) {
	o := &relay{pause: 10 * time.Millisecond}
	inBubble(t, func(c *clock) {
		const size = 48 << 20
		content := upstreamtest.Bytes(1, size)
		o.add(content)
		c.wantBlob(digest.FromBytes(content))
		if s := c.cache.Stats(); s.BlobConnections != 1 || len(o.asked()) != 1 || s.BytesFetched != size {
			t.Errorf("%d connections for %d requests, %d bytes", s.BlobConnections, len(o.asked()), s.BytesFetched)
		}
	}, relaying(o), func(c *clock) { c.cache.Limits.Segments = 1 })
}

// TestAnotherCacheProvesNothingAboutHead: an upstream that refuses HEAD for a blob which
// another cache then sends has not shown that it answers GET where it refuses HEAD.
func TestAnotherCacheProvesNothingAboutHead(t *testing.T) {
	for _, who := range []string{"client", "copy"} {
		o := &relay{via: "peer"}
		inBubble(t, func(c *clock) {
			if err := c.rules.Create(rule.Rule{Name: "second", Source: source + "/team/*", Target: "lib/*"}); err != nil {
				t.Fatal(err)
			}
			img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 100_000))
			c.manifest("v1")
			c.pass(time.Minute)
			for _, d := range blobsOf(img) {
				o.add(c.up.Blob("team/api", d.Digest))
			}
			c.up.Fail(upstreamtest.Fault{Method: "HEAD", Kind: "blob", Status: http.StatusForbidden})
			c.up.Reset()
			if who == "copy" {
				if _, _, err := c.cache.Manifest(c.Context(), "lib/api", "v1"); err != nil {
					t.Fatal(err)
				}
				c.pass(time.Minute)
			} else {
				for _, d := range blobsOf(img) {
					if w := c.response("GET", "lib/api/blobs/"+d.Digest.String()); w.Code != http.StatusOK || !strings.HasSuffix(w.Header().Get("Cache-Status"), "detail=peer") {
						t.Errorf("status %d, %q", w.Code, w.Header().Get("Cache-Status"))
					}
				}
			}
			for _, d := range blobsOf(img) {
				if n := c.up.Count("HEAD", "blob", d.Digest.String()); n != 1 {
					t.Errorf("%s: %d HEADs for a blob", who, n)
				}
			}
		}, relaying(o))
	}
}
