package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// flaky is a Matcher that can fail.
type flaky struct {
	*rule.Set
	down atomic.Bool
}

func (f *flaky) Match(ctx context.Context, repository string) (*rule.Match, error) {
	if f.down.Load() {
		return nil, errors.New("the database is down")
	}
	return f.Set.Match(ctx, repository)
}

// Rules that cannot be read for a moment at the start cost no event that is owed.
func TestMatcherDownAtStart(t *testing.T) {
	for _, second := range []bool{false, true} {
		inBubble(t, func(c *clock) {
			c.stop()
			c.start(func(c *clock) {
				c.cache.Events = webhook.SinkFunc(func(context.Context, webhook.Event) error { return errSink })
			})
			img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			c.manifest("v1")
			c.pass(0)
			c.stop()
			m := &flaky{Set: c.rules}
			m.down.Store(true)
			c.start(func(c *clock) { c.cache.Rules = m })
			c.pass(time.Second)
			m.down.Store(false)
			if second {
				c.up.Tag("team/api", "v2", img.Digest)
				c.manifest("v2")
			}
			c.pass(24 * time.Hour)
			c.stop()
			c.start()
			c.pass(time.Hour)
			want := 2
			if second {
				want = 3
			}
			if len(c.events) != want {
				c.Errorf("second %v: %d events, want %d", second, len(c.events), want)
			}
		})
	}
}

// slowRecords takes its time to list.
type slowRecords struct {
	*store.Mem
	wait time.Duration
}

func (s *slowRecords) Record(ctx context.Context, kind, key string) ([]byte, error) {
	time.Sleep(s.wait)
	return s.Mem.Record(ctx, kind, key)
}

// A pull that comes while many records are read does not lose the tags of the former job.
func TestSlowLoadLosesTags(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.stop()
		c.store = &slowRecords{&store.Mem{}, 0}
		c.start()
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Tag("team/api", "v2", img.Digest)
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 503})
		c.manifest("v1")
		c.manifest("v2")
		c.pass(time.Minute)
		c.stop()
		c.store.(*slowRecords).wait = 3 * time.Second
		c.up.Heal()
		c.start()
		c.manifest("v1")
		c.pass(time.Hour)
		c.wantTags("v1", "v2")
	})
}

// A clock that was wrong when a job was written does not hold it for years.
func TestClockWentBack(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 503})
		c.manifest("v1")
		c.pass(time.Minute)
		c.stop()
		c.up.Heal()
		r, _ := store.As[store.Records](c.store)
		for key := range r.RecordKeys(c.Context(), "jobs") {
			data, _ := r.Record(c.Context(), "jobs", key)
			var job map[string]any
			if err := json.Unmarshal(data, &job); err != nil {
				c.Fatal(err)
			}
			for _, field := range []string{"next", "created"} {
				at, err := time.Parse(time.RFC3339, job[field].(string))
				if err != nil {
					c.Fatal(err)
				}
				job[field] = at.AddDate(10, 0, 0)
			}
			data, _ = json.Marshal(job)
			_ = r.PutRecord(c.Context(), "jobs", key, data)
		}
		c.start()
		c.pass(24 * time.Hour)
		if c.storedTag("v1") == "" {
			c.Errorf("waits ten years: %+v", c.cache.Copies()[0].Next)
		}
	})
}

// badRecord has one record that cannot be read.
type badRecord struct {
	*store.Mem
	n int
}

func (s *badRecord) Record(ctx context.Context, kind, key string) ([]byte, error) {
	if s.n--; s.n == 0 {
		return nil, errors.New("input/output error")
	}
	return s.Mem.Record(ctx, kind, key)
}

// One record that cannot be read costs no other.
func TestOneBadRecord(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.stop()
		b := &badRecord{Mem: &store.Mem{}}
		c.store = b
		c.start()
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 503})
		for i := range 5 {
			c.up.AddImage("team/api", fmt.Sprint("v", i), upstreamtest.Layers(1, 1000+i))
			c.manifest(fmt.Sprint("v", i))
		}
		c.pass(time.Minute)
		c.stop()
		c.up.Heal()
		b.n = 1
		c.start()
		c.pass(time.Hour)
		if len(c.events) < 8 {
			c.Errorf("%d events of 10", len(c.events))
		}
	})
}

// Retry right after Start finds what a former process left.
func TestRetryAfterStart(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.limited(cache.Limits{Attempts: 1})
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: img.Layers[0].Digest.String(), Status: 404})
		c.manifest("v1")
		c.pass(time.Minute)
		c.only("parked")
		c.stop()
		c.up.Heal()
		c.start()
		n, err := c.cache.Retry(c.Context(), "", "")
		if n != 1 || err != nil {
			c.Errorf("%d are retried, %v", n, err)
		}
	})
}

type openHook struct {
	*store.Mem
	open func()
	stat error
}

func (h *openHook) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	info, r, err := h.Mem.Open(ctx, repo, d)
	if f := h.open; f != nil && err == nil && store.IsManifest(info.MediaType) {
		h.open = nil
		f()
	}
	return info, r, err
}

func (h *openHook) Stat(ctx context.Context, repo string, d digest.Digest) (store.Info, error) {
	if h.stat != nil {
		return store.Info{}, h.stat
	}
	return h.Mem.Stat(ctx, repo, d)
}

// A store that cannot be read for a moment at the start makes no event of a
// deletion that never was.
func TestFalseDeletion(t *testing.T) {
	inBubble(t, func(c *clock) {
		c.stop()
		h := &openHook{Mem: &store.Mem{}}
		c.store = h
		c.start()
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Second)
		c.stop()
		c.events = nil
		// What a process leaves that is killed before it deletes.
		data, _ := json.Marshal(webhook.Event{ID: "x", Action: webhook.ActionDelete, Target: webhook.Target{Repository: "app/api", Digest: img.Digest.String()}})
		if err := h.PutRecord(context.Background(), "deletes", "k", data); err != nil {
			c.Fatal(err)
		}
		h.stat = errors.New("input/output error")
		c.start()
		c.pass(time.Second)
		h.stat = nil
		if len(c.events) != 0 {
			c.Errorf("%+v", c.events)
		}
	})
}
