package cache_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// roundTrip is how far away the upstream of these tests is.
const roundTrip = 40 * time.Millisecond

// far is a cache whose upstream is a round trip away.
type far struct {
	*clock
	*gauge
	slow atomic.Int64 // how much longer the way back takes
}

func (f *far) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(roundTrip / 2)
	resp, err := f.gauge.RoundTrip(r)
	time.Sleep(roundTrip/2 + time.Duration(f.slow.Load()))
	return resp, err
}

// inDistance runs a test with a stored image v1.
func inDistance(t *testing.T, test func(f *far, img upstreamtest.Image), setup ...func(*clock)) {
	t.Helper()
	f := &far{}
	setup = append([]func(*clock){func(c *clock) {
		f.clock, f.gauge = c, &gauge{next: inMemory{c.up}, now: map[string]int{}, most: map[string]int{}}
		c.cache.Upstream = &upstream.Client{Transport: f}
	}}, setup...)
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Minute)
		c.up.Reset()
		test(f, img)
	}, setup...)
}

// digest pulls v1 and returns what it stands for.
func (f *far) digest(method string) digest.Digest {
	f.Helper()
	r, err := http.NewRequestWithContext(f.Context(), method, "http://cache/v2/app/api/manifests/v1", nil)
	if err != nil {
		f.Error(err)
		return ""
	}
	resp, err := inMemory{f.cache}.RoundTrip(r)
	if err != nil || resp.StatusCode != 200 {
		f.Errorf("%v, %v", resp, err)
		return ""
	}
	return digest.Digest(resp.Header.Get("Docker-Content-Digest"))
}

// crowd lets 64 clients pull v1 so many times each, and returns how long each pull took,
// sorted.
func (f *far) crowd(times int) (took []time.Duration) {
	f.Helper()
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for range times {
				begun := time.Now()
				f.digest("GET")
				f.noting(func() { took = append(took, time.Since(begun)) })
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took
}

// TestCrowdAtATag: a crowd sees a tag checked in one round trip, not two, and costs few
// questions.
func TestCrowdAtATag(t *testing.T) {
	for times, questions := range map[int]int{1: 2, 20: 80} {
		inDistance(t, func(f *far, _ upstreamtest.Image) {
			took := f.crowd(times)
			half, worst := took[len(took)/2], took[len(took)-1]
			if half > roundTrip+2*time.Millisecond || worst > roundTrip+2*time.Millisecond {
				f.Errorf("%d pulls each: %v, %v at worst, want a round trip of %v and 2 ms", times, half, worst, roundTrip)
			}
			if n := f.up.Count("HEAD", "manifest", "v1"); n > questions {
				f.Errorf("%d pulls each: %d HEADs, want %d at most", times, n, questions)
			}
		})
	}
}

// TestChecksOfATagAreBounded: clients that come without end, at a tag that does not
// answer, hold four requests of its host.
func TestChecksOfATagAreBounded(t *testing.T) {
	inDistance(t, func(f *far, _ upstreamtest.Image) {
		f.slow.Store(int64(time.Second)) // less than what a client waits for
		var all sync.WaitGroup
		for i := range 500 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 2 * time.Millisecond)
				f.digest("GET")
			})
		}
		time.Sleep(900 * time.Millisecond)
		if n := f.up.Count("HEAD", "manifest", "v1"); n != 4 {
			f.Errorf("%d checks of a tag at once, want 4", n)
		}
		all.Wait()
	})
}

// TestPullAfterAPushSeesThePush: whatever is under way, no answer is older than its
// request.
func TestPullAfterAPushSeesThePush(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		inDistance(t, func(f *far, img upstreamtest.Image) {
			var all sync.WaitGroup
			for i := range 30 { // checks are under way at every moment
				all.Go(func() {
					time.Sleep(time.Duration(i) * 3 * time.Millisecond)
					f.digest(method)
				})
			}
			time.Sleep(35 * time.Millisecond)
			next := f.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
			for range 20 {
				time.Sleep(time.Millisecond)
				all.Go(func() {
					if d := f.digest(method); d != next.Digest {
						f.Errorf("%s after a push: %s, want %s", method, d, next.Digest)
					}
				})
			}
			all.Wait()
			if method == "HEAD" {
				return
			}
			// A check that ends in the moment in which the fetch has ended, and its copy is not
			// known yet, may fetch once more.
			if n := f.up.Count("GET", "manifest", ""); n == 0 || n > 2 {
				f.Errorf("%d fetches of the manifest that the tag moved to, want one", n)
			}
			if f.pass(time.Minute); f.digest(method) != next.Digest {
				f.Error("the tag did not move")
			}
		})
	}
}

// TestAnswersOutOfOrder: an answer that overtakes an earlier one is the newer.
func TestAnswersOutOfOrder(t *testing.T) {
	inDistance(t, func(f *far, img upstreamtest.Image) {
		var all sync.WaitGroup
		f.slow.Store(int64(200 * time.Millisecond))
		all.Go(func() {
			if d := f.digest("GET"); d != img.Digest {
				f.Errorf("the check before the push found %s", d)
			}
		})
		time.Sleep(roundTrip)
		next := f.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		f.slow.Store(0)
		if d := f.digest("GET"); d != next.Digest {
			f.Errorf("the check after the push found %s", d)
		}
		all.Wait()
		f.pass(time.Minute)
		f.up.Fail(upstreamtest.Fault{Status: 503})
		if d := f.digest("GET"); d != next.Digest {
			f.Errorf("the tag stands for %s, and not for what it was seen to stand for last", d)
		}
	})
}

// TestRefusalOutOfOrder: a refusal that is overtaken by a later answer is none.
func TestRefusalOutOfOrder(t *testing.T) {
	inDistance(t, func(f *far, img upstreamtest.Image) {
		f.up.Fail(upstreamtest.Fault{Kind: "manifest", Status: 403, Times: 2}) // HEAD, and GET since a HEAD is no verdict
		f.slow.Store(int64(500 * time.Millisecond))
		var all sync.WaitGroup
		all.Go(func() {
			_, _, err := f.cache.Manifest(f.Context(), "app/api", "v1")
			if err == nil {
				f.Error("the refusal was not told to the one that met it")
			}
		})
		time.Sleep(600 * time.Millisecond) // both were answered, and the second answer is on its way
		synctest.Wait()
		f.slow.Store(0)
		f.up.Heal()
		if d := f.digest("GET"); d != img.Digest {
			f.Error(d)
		}
		all.Wait()
		f.up.Fail(upstreamtest.Fault{Status: 503})
		if d := f.digest("GET"); d != img.Digest {
			f.Error(d)
		}
	}, func(c *clock) {
		if err := c.rules.Replace(rule.Rule{Name: "team", Source: source + "/team/*", Target: "app/*", RequireAccess: true}); err != nil {
			c.Fatal(err)
		}
	})
}

// TestWindowServesWhoComesDuringACheck: inside of the freshness window a check that is
// under way is new enough, also where nothing is stored yet.
func TestWindowServesWhoComesDuringACheck(t *testing.T) {
	inDistance(t, func(f *far, img upstreamtest.Image) {
		f.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 3000))
		f.up.Reset()
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				for _, tag := range []string{"v1", "v2"} {
					if _, _, err := f.cache.Manifest(f.Context(), "app/api", tag); err != nil {
						f.Error(err)
					}
				}
			})
		}
		all.Wait()
		if heads, gets := f.up.Count("HEAD", "manifest", "v1"), f.up.Count("GET", "manifest", "v2"); heads != 1 || gets != 1 {
			f.Errorf("%d HEADs and %d GETs, want one of each", heads, gets)
		}
	}, func(c *clock) { c.cache.Freshness = time.Second })
}

// TestAdmitIsAskedOnceAtATime: however many checks see a tag move, one asks whether it may.
func TestAdmitIsAskedOnceAtATime(t *testing.T) {
	var now, asked atomic.Int64
	inDistance(t, func(f *far, _ upstreamtest.Image) {
		asked.Store(0)
		next := f.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 3 * time.Millisecond)
				if d := f.digest("GET"); d != next.Digest {
					f.Error(d)
				}
			})
		}
		all.Wait()
		if n := asked.Load(); n == 0 {
			f.Error("Admit was not asked")
		}
		f.pass(time.Minute)
	}, func(c *clock) {
		c.cache.Admit = func(context.Context, cache.Candidate) error {
			asked.Add(1)
			if now.Add(1) > 1 {
				c.Error("Admit is asked about a candidate that it looks at")
			}
			time.Sleep(500 * time.Millisecond)
			now.Add(-1)
			return nil
		}
	})
}
