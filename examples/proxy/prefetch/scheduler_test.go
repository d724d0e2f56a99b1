package prefetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/prefetch"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// rig is a scheduler in fake time whose images take a time to copy, and what it did.
type rig struct {
	prefetch.Scheduler
	t       *testing.T
	begun   time.Time
	mu      sync.Mutex
	log     bytes.Buffer
	takes   time.Duration
	fail    map[string]error
	story   []string // the time since the beginning and the image
	now     int
	most    int // copied at once
	ended   int // by the context
	options []cache.PrefetchOptions
}

// inBubble runs a test with a rig. At its end nothing may be left that runs.
func inBubble(t *testing.T, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, begun: time.Now(), fail: map[string]error{}}
		r.Log, r.Prefetch = slog.New(slog.NewTextHandler(r, nil)), r.copy
		test(r)
		r.Close()
	})
}

// Write takes the log.
func (r *rig) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

func (r *rig) copy(ctx context.Context, repository, reference string, o cache.PrefetchOptions) error {
	r.mu.Lock()
	r.story = append(r.story, fmt.Sprintf("%v %s:%s", time.Since(r.begun), repository, reference))
	r.options = append(r.options, o)
	r.now++
	r.most = max(r.most, r.now)
	err, takes := r.fail[repository], r.takes
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.now--
		r.mu.Unlock()
	}()
	select {
	case <-time.After(takes):
		o.Progress(700, 700)
		return err
	case <-ctx.Done():
		r.mu.Lock()
		r.ended++
		r.mu.Unlock()
		return ctx.Err()
	}
}

// heal lets a repository be copied without an error.
func (r *rig) heal(repository string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.fail, repository)
}

// pass lets time pass, and returns what happened since the last call.
func (r *rig) pass(d time.Duration) (story []string, log string) {
	time.Sleep(d)
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	story, log = r.story, r.log.String()
	r.story = nil
	r.log.Reset()
	return story, log
}

// want fails unless this happened while time passed. It returns the log.
func (r *rig) want(d time.Duration, want ...string) string {
	r.t.Helper()
	story, log := r.pass(d)
	if slices.Sort(story); !slices.Equal(story, want) {
		r.t.Errorf("got %q\nwant %q", story, want)
	}
	return log
}

func images(names ...string) (list []prefetch.Image) {
	for _, name := range names {
		list = append(list, prefetch.Image{Repository: name, Reference: "v1"})
	}
	return list
}

// TestTimes: a list is copied when it is set and again by its schedule, whatever failed.
func TestTimes(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.takes, r.fail["b"] = time.Second, errors.New("no such image")
		r.Set([]prefetch.Task{{Images: images("a", "b"), Schedule: prefetch.Every(time.Hour)}})
		log := r.want(time.Minute, "0s a:v1", "0s b:v1")
		for _, words := range []string{
			`level=INFO msg=prefetched image=a:v1 duration=1s bytes=700`,
			`level=WARN msg="not prefetched; it is tried at the next time of its list" image=b:v1 duration=1s error="no such image"`,
			`level=INFO msg="prefetched a list" images=2 failed=1 duration=1s schedule="every 1h0m0s" next=` + r.begun.Add(time.Hour).Format(time.RFC3339),
		} {
			if !strings.Contains(log, words) {
				t.Errorf("the log lacks %q:\n%s", words, log)
			}
		}
		r.heal("b")
		r.want(time.Hour, "1h0m0s a:v1", "1h0m0s b:v1")
		if got, want := r.Stats(), (prefetch.Stats{Images: 2, Copied: 3, Failed: 1, Last: r.begun.Add(time.Hour + time.Second)}); got != want {
			t.Errorf("figures %+v, want %+v", got, want)
		}
		r.mu.Lock()
		r.takes = 150 * time.Minute // longer than until the next time, which is left out then
		r.mu.Unlock()
		r.want(2*time.Hour, "2h0m0s a:v1", "2h0m0s b:v1")
		if n := r.Stats().Running; n != 2 {
			t.Errorf("%d are running, want 2", n)
		}
		r.want(2*time.Hour, "5h0m0s a:v1", "5h0m0s b:v1")
	})
}

// TestDaily: a list with a time of day is copied at it, in local time, also where a day is
// longer or shorter than others.
func TestDaily(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	at := prefetch.Daily{Hour: 3, Minute: 30}
	for _, test := range []struct{ now, want string }{
		{"2026-03-28T12:00:00+01:00", "2026-03-29T03:30:00+02:00"}, // the night has one hour less
		{"2026-10-24T12:00:00+02:00", "2026-10-25T03:30:00+01:00"}, // and one more
		{"2026-06-01T03:30:00+02:00", "2026-06-02T03:30:00+02:00"},
		{"2026-06-01T03:29:59+02:00", "2026-06-01T03:30:00+02:00"},
		{"2026-12-31T23:00:00+01:00", "2027-01-01T03:30:00+01:00"},
	} {
		now, err := time.Parse(time.RFC3339, test.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := at.Next(now, now.In(berlin)).Format(time.RFC3339); got != test.want {
			t.Errorf("after %s comes %s, want %s", test.now, got, test.want)
		}
	}
	inBubble(t, func(r *rig) { // the fake time begins at midnight UTC
		r.begun = r.begun.In(time.Local)
		first := at.Next(r.begun, r.begun).Sub(r.begun)
		r.Set([]prefetch.Task{{Images: images("a"), Schedule: at}})
		r.want(first-time.Second, "0s a:v1")
		r.want(time.Minute, first.String()+" a:v1")
		r.want(24*time.Hour, (first+24*time.Hour).String()+" a:v1")
	})
}

// TestJitter: all times but the first are put off, each by another part of the jitter.
func TestJitter(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.Set([]prefetch.Task{{Images: images("a"), Schedule: prefetch.Every(24 * time.Hour), Jitter: time.Hour}})
		r.want(24*time.Hour-time.Second, "0s a:v1")
		story, _ := r.pass(5 * 25 * time.Hour)
		var offs []time.Duration
		former := time.Duration(0)
		for _, one := range story {
			at, err := time.ParseDuration(strings.Fields(one)[0])
			if err != nil {
				t.Fatal(err)
			}
			offs = append(offs, at-former-24*time.Hour)
			former = at
		}
		if len(offs) < 5 || slices.Min(offs) < 0 || slices.Max(offs) >= time.Hour || slices.Min(offs) == slices.Max(offs) {
			t.Errorf("it is put off by %v", offs)
		}
	})
}

// TestAtOnce: of all lists together, some images are copied at once, and the others wait.
func TestAtOnce(t *testing.T) {
	for _, test := range []struct{ atOnce, want int }{{0, prefetch.DefaultAtOnce}, {3, 3}} {
		inBubble(t, func(r *rig) {
			r.takes, r.AtOnce = time.Second, test.atOnce
			var tasks []prefetch.Task
			for i := range 5 {
				tasks = append(tasks, prefetch.Task{Images: images(fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i))})
			}
			r.Set(tasks)
			if story, _ := r.pass(time.Minute); len(story) != 15 || r.most != test.want {
				t.Errorf("%d images, %d at once, want 15 and %d", len(story), r.most, test.want)
			}
		})
	}
}

// TestSet: a change of the list begins what is new and ends what has gone, and leaves the
// rest alone. Set waits for nothing.
func TestSet(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.takes = 10 * time.Minute
		hourly := func(names ...string) prefetch.Task {
			return prefetch.Task{Images: images(names...), Schedule: prefetch.Every(time.Hour)}
		}
		r.Set([]prefetch.Task{hourly("a"), hourly("b"), hourly("a")})
		r.want(time.Minute, "0s a:v1", "0s b:v1")
		r.Set([]prefetch.Task{hourly("a"), hourly("c")})
		r.want(time.Minute, "1m0s c:v1")
		if r.ended != 1 || r.Stats().Failed != 0 || r.Stats().Images != 2 {
			t.Errorf("%d were ended, figures %+v; want that b ends, which is no failure", r.ended, r.Stats())
		}
		r.want(time.Hour, "1h0m0s a:v1", "1h1m0s c:v1")
		r.Set(nil)
		r.want(24 * time.Hour)
		r.Set([]prefetch.Task{hourly("a")})
		r.want(time.Minute, "25h2m0s a:v1")
	})
}

// TestOnlyAtTheStart: a list without a schedule is copied once, and again when the lists are
// set anew after a failure.
func TestOnlyAtTheStart(t *testing.T) {
	inBubble(t, func(r *rig) {
		tasks := []prefetch.Task{{Images: images("good")}, {Images: images("bad")}}
		r.fail["bad"] = errors.New("no such image")
		r.Set(tasks)
		if log := r.want(100*time.Hour, "0s bad:v1", "0s good:v1"); !strings.Contains(log, `next="at the next start"`) {
			t.Errorf("the log is:\n%s", log)
		}
		r.heal("bad")
		r.Set(tasks)
		r.want(time.Hour, "100h0m0s bad:v1")
		r.Set(tasks)
		r.want(time.Hour)
	})
}

// TestClose: the end does not wait for what is copied or waits for its time, and nothing
// begins after it.
func TestClose(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.takes, r.AtOnce = time.Hour, 1
		r.Set([]prefetch.Task{{Images: images("a", "b", "c")}, {Images: images("d"), Schedule: prefetch.Every(time.Hour)}})
		r.pass(time.Minute)
		begun := time.Now()
		r.Close()
		if time.Since(begun) > 0 || r.now != 0 {
			t.Errorf("it took %v, %d run", time.Since(begun), r.now)
		}
		r.Set([]prefetch.Task{{Images: images("e")}})
		if log := r.want(24 * time.Hour); strings.Contains(log, "WARN") {
			t.Errorf("the end is no failure:\n%s", log)
		}
	})
}

// TestWithACache: the platforms of the list are copied, and a tag that has moved is followed.
func TestWithACache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := upstreamtest.NewHandler()
		up.AddMultiPlatform("team/tool", "v1", upstreamtest.Layers(1, 1000), "amd64", "arm64")
		set, err := rule.NewSet(rule.Rule{Name: "local", Source: "registry.example.com/*", Target: "local/*"})
		if err != nil {
			t.Fatal(err)
		}
		c := &cache.Cache{Rules: set, Upstream: &upstream.Client{Transport: up.Transport()}}
		defer c.Shutdown(context.Background())
		s := &prefetch.Scheduler{Prefetch: c.Prefetch, Log: slog.New(slog.DiscardHandler)}
		defer s.Close()
		s.Set([]prefetch.Task{{
			Images:   []prefetch.Image{{Repository: "local/team/tool", Reference: "v1", Platforms: []string{"linux/arm64"}}},
			Schedule: prefetch.Every(time.Hour),
		}})
		time.Sleep(time.Minute)
		first := up.Count("GET", "blob", "")
		if x, err := c.Explain(t.Context(), "local/team/tool", "v1"); err != nil || !x.Stored || first != 2 {
			t.Errorf("%+v, %v, %d blobs; want a layer and a config", x, err, first)
		}
		moved := up.AddImage("team/tool", "v1", upstreamtest.Layers(1, 2000))
		time.Sleep(time.Hour)
		if x, err := c.Explain(t.Context(), "local/team/tool", moved.Digest.String()); err != nil || !x.Stored {
			t.Errorf("%+v, %v: the tag that has moved is not here", x, err)
		}
		if got := s.Stats(); got.Copied != 1 || got.Failed != 1 {
			t.Errorf("figures %+v: the new image is for no platform of the list", got)
		}
	})
}
