package cache_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// stranger adds a rule of somebody else at the same host.
func stranger(s *story) {
	if err := s.rules.Create(rule.Rule{Name: "stranger", Source: s.host() + "/open/*", Target: "open/*"}); err != nil {
		s.Fatal(err)
	}
}

// A rule whose copies never end fills the queue, and those of another rule find room.
func TestOneRuleDoesNotFillTheQueue(t *testing.T) {
	s := newStory(t, stranger, func(s *story) { s.cache.Limits.MaxJobs = 10 })
	s.up.Fail(upstreamtest.Fault{Repository: "open/a", Kind: "blob", Status: 503})
	for i := range 15 {
		tag := fmt.Sprint("v", i)
		s.wantManifest("open/a", tag, s.up.AddImage("open/a", tag, upstreamtest.Layers(1, 1000+i)))
	}
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 500))
	s.wantManifest("app/api", "v1", img)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if x, err := s.cache.Explain(t.Context(), "app/api", "v1"); err == nil && x.Stored {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the other rule's image was not copied: %v", s.cache.Copies())
		}
	}
	if n := len(s.cache.Copies()); n > 10 {
		t.Errorf("%d copies are known, want 10 at most", n)
	}
}

// However many clients ask a host that is slow, and leave, no more questions are open
// there than may be. A client that finds no place is told when to come again, and one
// of another rule, which was there in the last minutes, finds one.
func TestQuestionsToAHostAreBounded(t *testing.T) {
	s := newStory(t, stranger, func(s *story) {
		s.cache.Limits.RequestsPerHost, s.cache.Limits.SlotTimeout = 8, 300*time.Millisecond
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 500))
	s.manifest("app/api", "before")
	var now, most atomic.Int64
	s.up.Fail(upstreamtest.Fault{Repository: "open/a", Do: func(w http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		select {
		case <-r.Context().Done():
		case <-time.After(2 * time.Second):
		}
		w.WriteHeader(http.StatusNotFound)
	}})
	var wg sync.WaitGroup
	var busy atomic.Int64
	for i := range 60 {
		wg.Go(func() {
			r := s.get(fmt.Sprintf("/v2/open/a/manifests/t%d", i))
			if r.StatusCode == http.StatusServiceUnavailable && r.Header.Get("Retry-After") != "" {
				busy.Add(1)
			}
		})
	}
	for deadline := time.Now().Add(time.Minute); now.Load() < 6 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	s.wantManifest("app/api", "v1", img)
	wg.Wait()
	if n := most.Load(); n == 0 || n > 6 {
		t.Errorf("%d questions of one rule were open at once, want 6 at most", n)
	}
	if busy.Load() == 0 {
		t.Error("nobody was told that there is no place")
	}
}

// Ranges of what is stored are counted as those of what is on its way.
func TestManyRangesOfWhatIsStored(t *testing.T) {
	s := newStory(t, onDir)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 100_000))
	s.pull("app/api", "v1", img)
	s.settle()
	layer := img.Layers[0]
	many := "bytes=0-0" + strings.Repeat(",2-2", 5000)
	for path, size := range map[string]int{"blobs/" + layer.Digest.String(): int(layer.Size), "manifests/v1": len(img.Manifest)} {
		r := s.get("/v2/app/api/"+path, "Range", many)
		if r.StatusCode != http.StatusOK || len(r.body) != size {
			t.Errorf("%.20s: status %d and %d bytes for 5,001 ranges, want 200 and %d", path, r.StatusCode, len(r.body), size)
		}
		if r := s.get("/v2/app/api/"+path, "Range", "bytes=0-0,2-2"); r.StatusCode != http.StatusPartialContent {
			t.Errorf("%.20s: status %d for two ranges", path, r.StatusCode)
		}
	}
}

// dripping is a registry whose blobs of one repository come at 2 KiB a second.
type dripping struct {
	inMemory
	repository string
}

func (d dripping) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := d.inMemory.RoundTrip(req)
	if err == nil && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/"+d.repository+"/blobs/") {
		resp.Body = drip{resp.Body, req.Context()}
	}
	return resp, err
}

type drip struct {
	io.ReadCloser
	ctx context.Context
}

func (d drip) Read(p []byte) (int, error) {
	select {
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	case <-time.After(time.Second):
	}
	return d.ReadCloser.Read(p[:min(len(p), 2<<10)])
}

// Copies that bring next to nothing and run in all places give one to another rule's,
// and end nevertheless.
func TestSlowCopiesDoNotStopOthers(t *testing.T) {
	inBubble(t, func(c *clock) {
		if err := c.rules.Create(rule.Rule{Name: "stranger", Source: source + "/open/*", Target: "open/*"}); err != nil {
			c.Fatal(err)
		}
		for i := range 3 {
			tag := fmt.Sprint("v", i)
			c.up.AddImage("open/a", tag, upstreamtest.Layers(1, 1<<20+i))
			if _, _, err := c.cache.Manifest(c.Context(), "open/a", tag); err != nil {
				c.Fatal(err)
			}
		}
		c.pass(10 * time.Second)
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 500))
		c.manifest("v1")
		c.pass(5 * time.Minute)
		if x, err := c.cache.Explain(c.Context(), "app/api", "v1"); err != nil || !x.Stored {
			c.Errorf("the other rule's image is not here: %v, %v; %v", x, err, c.cache.Copies())
		}
		c.pass(3 * time.Hour)
		if all := c.cache.Copies(); len(all) != 0 {
			c.Errorf("these did not end: %v", all)
		}
	}, func(c *clock) {
		c.cache.Limits.Jobs = 2
		c.cache.Upstream = &upstream.Client{Transport: dripping{inMemory{c.up}, "open/a"}}
	})
}
