package cache_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// copied reports whether a tag is complete here, and why not.
func copied(t *testing.T, c *cache.Cache, repo, tag string) (bool, string) {
	t.Helper()
	x, err := c.Explain(t.Context(), repo, tag)
	if err != nil {
		t.Fatal(err)
	}
	return x.Stored, x.Text
}

// TestHonestCopiesBesideAFullQueue: copies of a stranger that cannot be made take no room
// from another rule, and none of that rule's copies is given up for them.
func TestHonestCopiesBesideAFullQueue(t *testing.T) {
	m := newTenants(t, func(s *story) { s.cache.Limits.MaxJobs = 20 })
	m.up.Fail(upstreamtest.Fault{Repository: "open/evil", Kind: "blob", Status: http.StatusServiceUnavailable})
	flood := func(from, to int) {
		for i := from; i < to; i++ {
			tag := fmt.Sprint("t", i)
			m.wantManifest("open/evil", tag, m.up.AddImage("open/evil", tag, [][]byte{upstreamtest.Bytes(uint64(i), 100+i)}))
		}
	}
	flood(0, 25)
	m.settle()
	if n := len(m.cache.Copies()); n != 20 {
		t.Fatalf("%d copies are known: the queue is not full, so this shows nothing", n)
	}
	// An index waits for a client to pull one of its images: it is not made at once.
	index := m.up.AddMultiPlatform("team/api", "slow", upstreamtest.Layers(2, 1000), "amd64")
	m.wantManifest("app/api", "slow", index)
	honest := m.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 3000))
	m.pull("app/api", "v2", honest)
	flood(25, 60)
	m.settle()
	if ok, why := copied(t, m.cache, "app/api", "v2"); !ok {
		t.Errorf("the honest tag is not copied: %s", why)
	}
	waits := 0
	for _, c := range m.cache.Copies() {
		if c.Digest == index.Digest {
			waits++
		}
	}
	if waits != 1 {
		t.Error("the honest index was given up for the stranger's copies")
	}
	if n := len(m.cache.Copies()); n > 20 {
		t.Errorf("%d copies are known, want 20 at most", n)
	}
}

// trickle sends the blobs of a stranger at a rate that is just no cut.
type trickle struct{ next http.RoundTripper }

func (d trickle) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.next.RoundTrip(r)
	if err == nil && r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v2/open/") && strings.Contains(r.URL.Path, "/blobs/") {
		resp.Body = &trickling{resp.Body, r}
	}
	return resp, err
}

type trickling struct {
	io.ReadCloser
	r *http.Request
}

// Read gives 2 KiB after a second.
func (d *trickling) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
	case <-d.r.Context().Done():
		return 0, d.r.Context().Err()
	}
	return d.ReadCloser.Read(p[:min(len(p), 2<<10)])
}

// inTrickle runs a test with two strangers' rules whose blobs trickle.
func inTrickle(t *testing.T, limits cache.Limits, test func(c *clock)) {
	t.Helper()
	inBubble(t, test, func(c *clock) {
		for _, name := range []string{"open", "wide"} {
			if err := c.rules.Create(rule.Rule{Name: name, Source: source + "/open/*", Target: name + "/*"}); err != nil {
				c.Fatal(err)
			}
		}
		c.cache.Upstream = &upstream.Client{Transport: trickle{inMemory{c.up}}}
		c.cache.Limits = limits
	})
}

// TestSlowCopiesGiveTheirPlaces: copies that trickle take all places while nobody
// else is there; then they give them to the rule that comes, however many wait before it.
func TestSlowCopiesGiveTheirPlaces(t *testing.T) {
	for _, c := range []struct {
		known     bool // the other rule was there before
		strangers []string
	}{{false, []string{"open/evil"}}, {true, []string{"open/evil"}}, {false, []string{"open/evil", "wide/evil"}}} {
		known, strangers := c.known, c.strangers
		inTrickle(t, cache.Limits{}, func(c *clock) {
			honest := c.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 10_000))
			if known { // so that some places are left to it
				c.manifest("v1")
				c.pass(time.Second)
				honest = c.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 20_000))
			}
			for i := range 40 {
				tag := fmt.Sprint("t", i)
				c.up.AddImage("open/evil", tag, [][]byte{upstreamtest.Bytes(uint64(i), 2*mib)})
				if _, _, err := c.cache.Manifest(c.Context(), strangers[i%len(strangers)], tag); err != nil {
					c.Fatal(err)
				}
			}
			c.pass(time.Second)
			running := 0
			for _, j := range c.cache.Copies() {
				if j.State == "running" {
					running++
				}
			}
			if running != 8 {
				c.Fatalf("%d copies are running: not all places are taken, so this shows nothing", running)
			}
			c.manifest("v1")
			c.pass(5 * time.Minute)
			x, err := c.cache.Explain(c.Context(), "app/api", "v1")
			if err != nil || !x.Stored || x.Digest != honest.Digest {
				c.Errorf("the honest tag is not copied after five minutes: %s %v", x.Text, err)
			}
			for _, j := range c.cache.Copies() {
				if j.Attempts != 0 || j.State == "parked" {
					c.Errorf("to be slow counts as a failure: %s", j)
				}
			}
		})
	}
}

// TestDripsOfNobodyGiveTheirPlaces: downloads that trickle, whose clients have left,
// do not keep another rule's client waiting.
func TestDripsOfNobodyGiveTheirPlaces(t *testing.T) {
	inTrickle(t, cache.Limits{Downloads: 8, DownloadsPerHost: 8}, func(c *clock) {
		for i := range 8 {
			d := c.up.AddBlob("open/evil", upstreamtest.Bytes(uint64(i), 2*mib))
			_, r, err := c.cache.Blob(c.Context(), "open/evil", d)
			if err != nil {
				c.Fatal(err)
			}
			c.pass(2 * time.Second)
			if err := r.Close(); err != nil {
				c.Error(err)
			}
		}
		if n := c.cache.Stats().Downloads; n < 5 {
			c.Fatalf("%d downloads: not many places are taken, so this shows nothing", n)
		}
		c.pass(2 * time.Minute)
		if n := c.cache.Stats().Downloads; n != 0 {
			c.Errorf("%d downloads that nobody waits for go on", n)
		}
		good := upstreamtest.Bytes(99, 100_000)
		_, r, err := c.cache.Blob(c.Context(), "app/api", c.up.AddBlob("team/api", good))
		if err != nil {
			c.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != string(good) {
			c.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// TestClientsBesideDrips: clients that wait for blobs that trickle leave places to the
// clients of a rule that was there before.
func TestClientsBesideDrips(t *testing.T) {
	inTrickle(t, cache.Limits{Downloads: 8, DownloadsPerHost: 8}, func(c *clock) {
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Minute)
		for i := range 20 {
			d := c.up.AddBlob("open/evil", upstreamtest.Bytes(uint64(i), 2*mib))
			go func() {
				if _, r, err := c.cache.Blob(c.Context(), "open/evil", d); err == nil {
					_, _ = io.Copy(io.Discard, r)
					_ = r.Close()
				}
			}()
		}
		c.pass(5 * time.Second)
		begun := time.Now()
		_, r, err := c.cache.Blob(c.Context(), "app/api", c.up.AddBlob("team/api", upstreamtest.Bytes(99, 100_000)))
		if err != nil || time.Since(begun) > time.Second {
			c.Fatalf("%v after %v", err, time.Since(begun))
		}
		if n, err := io.Copy(io.Discard, r); n != 100_000 || err != nil {
			c.Errorf("%d bytes, %v", n, err)
		}
	})
}

// TestASlowCopyKeepsItsPlace: a copy that trickles is not interrupted while nobody
// waits for its place, also when it has the last one.
func TestASlowCopyKeepsItsPlace(t *testing.T) {
	for _, jobs := range []int{1, 2} {
		inTrickle(t, cache.Limits{Jobs: jobs}, func(c *clock) {
			img := c.up.AddImage("open/evil", "v1", [][]byte{upstreamtest.Bytes(1, mib)})
			if _, _, err := c.cache.Manifest(c.Context(), "open/evil", "v1"); err != nil {
				c.Fatal(err)
			}
			c.pass(10 * time.Minute) // it needs nine, at 2 KiB a second
			if ok, why := copied(c.T, c.cache, "open/evil", "v1"); !ok {
				c.Errorf("with %d places it is not copied: %s", jobs, why)
			}
			if n := c.blobs(img.Layers[0].Digest); n != 1 {
				c.Errorf("with %d places its layer was asked for %d times", jobs, n)
			}
		})
	}
}
