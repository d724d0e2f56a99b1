package cache_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// window has one slot for requests, so that a second question waits until the first one was
// answered.
func window(freshness time.Duration) func(*clock) {
	return func(c *clock) {
		c.cache.Freshness = freshness
		c.cache.Limits.Requests = 1
	}
}

// together asks for a tag by GET and by HEAD at once, which are two questions.
func (c *clock) together() (got map[string]*httptest.ResponseRecorder) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	got = map[string]*httptest.ResponseRecorder{}
	for _, method := range []string{"GET", "HEAD"} {
		wg.Go(func() {
			w := c.response(method, "app/api/manifests/v1")
			mu.Lock()
			defer mu.Unlock()
			got[method] = w
		})
	}
	wg.Wait()
	return got
}

// TestSecondQuestionOfAWindow: one that waited for its turn while another was answered uses
// that answer within the window, and only there.
func TestSecondQuestionOfAWindow(t *testing.T) {
	for freshness, want := range map[time.Duration]int{time.Minute: 1, 0: 2} {
		inBubble(t, func(c *clock) {
			img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			c.manifest("v1")
			c.pass(time.Hour)
			c.up.Reset()
			c.up.Fail(upstreamtest.Fault{Kind: "manifest", Latency: 100 * time.Millisecond})
			states := map[string]int{}
			for method, w := range c.together() {
				states[w.Header().Get("Cache-Status")]++
				if w.Code != http.StatusOK || w.Header().Get("Docker-Content-Digest") != img.Digest.String() || method == "GET" && w.Body.Len() != len(img.Manifest) {
					t.Errorf("%s: status %d, %s, %d bytes", method, w.Code, w.Header().Get("Docker-Content-Digest"), w.Body.Len())
				}
			}
			if n := c.up.Count("HEAD", "manifest", "v1"); n != want || states["pullthrough; hit"] != 2-want {
				t.Errorf("freshness %v: %d questions, want %d; %v", freshness, n, want, states)
			}
		}, window(freshness))
	}
}

// TestSecondQuestionAfterAMove: where the first question has found that the tag moved, the
// second one does not answer with what is stored.
func TestSecondQuestionAfterAMove(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Hour)
		moved := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.up.Fail(upstreamtest.Fault{Kind: "manifest", Latency: 100 * time.Millisecond})
		for method, w := range c.together() {
			if w.Code != http.StatusOK || w.Header().Get("Docker-Content-Digest") != moved.Digest.String() {
				t.Errorf("%s: status %d, %s", method, w.Code, w.Header().Get("Docker-Content-Digest"))
			}
		}
	}, window(time.Minute))
}

// TestSecondQuestionAfterAFailure: a question that failed is no answer for the second one,
// which gets what is stored as after any failure.
func TestSecondQuestionAfterAFailure(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Hour)
		c.up.Fail(upstreamtest.Fault{Kind: "manifest", Latency: 100 * time.Millisecond, Status: http.StatusBadGateway})
		for method, w := range c.together() {
			if w.Code != http.StatusOK || w.Header().Get("Docker-Content-Digest") != img.Digest.String() || w.Header().Get("Cache-Status") == "pullthrough; hit" {
				t.Errorf("%s: status %d, %q", method, w.Code, w.Header().Get("Cache-Status"))
			}
		}
	}, window(time.Minute))
}

// TestSecondQuestionWhereAccessIsNeeded: what the upstream refused to the first question is
// refused to the second one too.
func TestSecondQuestionWhereAccessIsNeeded(t *testing.T) {
	inBubble(t, func(c *clock) {
		needy, _ := c.rules.Get("team")
		needy.RequireAccess = true
		if err := c.rules.Replace(needy); err != nil {
			t.Fatal(err)
		}
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Hour)
		c.up.Fail(upstreamtest.Fault{Kind: "manifest", Latency: 100 * time.Millisecond, Status: http.StatusForbidden})
		for method, w := range c.together() {
			if w.Code != http.StatusForbidden {
				t.Errorf("%s: status %d, %q", method, w.Code, w.Header().Get("Cache-Status"))
			}
		}
	}, window(time.Minute))
}
