package cache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// remote is a Copier that posts jobs to a worker, which has the same store and
// rules.
type remote struct{ url string }

func (r remote) Submit(ctx context.Context, job cache.Job) error {
	body, err := json.Marshal(job)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("the worker answered %s", resp.Status)
	}
	return nil
}

// worker does the jobs that it is sent.
func worker(c *cache.Cache, running *sync.WaitGroup) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var job cache.Job
		if err := json.NewDecoder(r.Body).Decode(&job); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		running.Go(func() {
			if err := c.Copy(context.Background(), job); err != nil {
				log.Print(err) // the sender submits it again
			}
		})
		w.WriteHeader(http.StatusAccepted)
	})
}

// Copies run in another process: the one that serves hands its jobs over, and
// sees in the store when they are done.
func ExampleCopier() {
	up, err := upstreamtest.Start() // stands for a registry
	if err != nil {
		log.Fatal(err)
	}
	defer up.Close()
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/team/*", Target: "app/*"})
	if err != nil {
		log.Fatal(err)
	}
	shared := &store.Mem{} // stands for a store that both processes reach

	events := make(chan webhook.Event, 2)
	// The records of copies belong to the process that serves: hide them here.
	content := struct{ store.Store }{shared}
	copies := &cache.Cache{Rules: rules, Store: content, Upstream: up.Client()}
	var running sync.WaitGroup
	server := httptest.NewServer(worker(copies, &running))
	defer server.Close()

	serves := &cache.Cache{Rules: rules, Store: shared, Upstream: up.Client(), Copier: remote{server.URL},
		Events: webhook.SinkFunc(func(_ context.Context, ev webhook.Event) error { events <- ev; return nil })}
	if _, _, err := serves.Manifest(context.Background(), "app/api", "v1"); err != nil {
		log.Fatal(err)
	}
	fmt.Println((<-events).Target.Tag, (<-events).Target.Digest == img.Digest.String())
	running.Wait()
	_ = serves.Shutdown(context.Background())
	_ = copies.Shutdown(context.Background())
	// Output: v1 true
}

// handed is a Copier whose jobs are done by another cache on the same store,
// when the test says so.
type handed struct {
	c    *clock
	jobs []cache.Job
}

func (h *handed) Submit(_ context.Context, job cache.Job) error {
	h.c.noting(func() { h.jobs = append(h.jobs, job) })
	return nil
}

// What another process has done is noticed, an index is handed over when a
// platform of it is there, and nothing is submitted again that is done.
func TestAnotherProcessCopies(t *testing.T) {
	inBubble(t, func(c *clock) {
		h := &handed{c: c}
		c.stop()
		c.start(func(c *clock) { c.cache.Copier = h })
		// The records of copies belong to the process that serves.
		other := &clock{T: c.T, up: c.up, rules: c.rules, store: struct{ store.Store }{c.store}}
		other.start()
		defer other.stop()
		img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
		amd := img.Children[0]
		c.manifest("v1")
		c.manifest(amd.Digest.String())
		c.pass(time.Second)
		if len(h.jobs) != 0 {
			c.Fatal("an index without a platform, or a platform without a layer, was submitted")
		}
		_, body, err := c.cache.Blob(c.Context(), "app/api", amd.Layers[1].Digest)
		if err != nil {
			c.Fatal(err)
		}
		_ = body.Close()
		c.pass(time.Second)
		if len(h.jobs) != 1 || h.jobs[0].Digest != amd.Digest {
			c.Fatalf("%d are submitted", len(h.jobs))
		}
		if x, err := c.cache.Explain(c.Context(), "app/api", amd.Digest.String()); err != nil || x.Copy == nil || x.Copy.State != cache.CopySubmitted || x.Copy.Elsewhere != "" {
			c.Errorf("%+v, %v", x, err)
		}
		if err := other.cache.Copy(c.Context(), h.jobs[0]); err != nil {
			c.Fatal(err)
		}
		c.pass(time.Minute)
		if len(h.jobs) != 2 || h.jobs[1].Digest != img.Digest {
			c.Fatalf("%d are submitted", len(h.jobs))
		}
		c.pass(11 * time.Minute) // nobody did it
		if len(h.jobs) != 3 || h.jobs[2].ID != h.jobs[1].ID {
			c.Fatalf("%d were submitted; what nobody does is to be submitted again", len(h.jobs))
		}
		for range 2 { // doing it twice does no harm
			if err := other.cache.Copy(c.Context(), h.jobs[2]); err != nil {
				c.Fatal(err)
			}
		}
		c.pass(24 * time.Hour)
		if n := len(c.cache.Copies()); n != 0 || len(h.jobs) != 3 {
			c.Errorf("%d copies are left, %d were submitted", n, len(h.jobs))
		}
		ids := map[string]bool{}
		other.pass(0)
		for _, ev := range other.events {
			ids[ev.ID] = true
		}
		for _, ev := range c.events {
			delete(ids, ev.ID)
		}
		if len(other.events) < 3 || len(ids) != 0 || len(c.events) != 3 { // the last was done twice
			c.Errorf("events %+v, and here %+v", other.events, c.events)
		}
		c.up.Fail(upstreamtest.Fault{Status: 503})
		c.manifest("v1")
		c.manifest(amd.Digest.String())
	})
}

// A Copier that takes nothing is asked again later, and that is not the job's
// fault.
func TestCopierThatTakesNothing(t *testing.T) {
	inBubble(t, func(c *clock) {
		taken := 0
		c.stop()
		c.start(func(c *clock) {
			c.cache.Copier = copierFunc(func(ctx context.Context, job cache.Job) error {
				if taken++; taken < 30 {
					return errors.New("the queue is down")
				}
				return c.cache.Copy(ctx, job) // at once, within Submit
			})
		})
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Hour)
		if s := c.only("paused"); s.Attempts != 0 {
			c.Errorf("%+v", s)
		}
		c.pass(24 * time.Hour)
		if n := len(c.cache.Copies()); n != 0 || len(c.events) != 2 || taken != 30 {
			c.Errorf("%d copies, %d events, asked %d times", n, len(c.events), taken)
		}
	})
}

type copierFunc func(context.Context, cache.Job) error

func (f copierFunc) Submit(ctx context.Context, job cache.Job) error { return f(ctx, job) }

// The event of a deletion is owed like that of a copy.
func TestEventOfADeletion(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(0)
		c.stop()
		refuses := true
		sink := func(c *clock) {
			send := c.cache.Events
			c.cache.Events = webhook.SinkFunc(func(ctx context.Context, ev webhook.Event) error {
				if refuses {
					return errSink
				}
				return send.Send(ctx, ev)
			})
		}
		c.start(sink)
		c.events = nil
		if err := c.cache.Delete(c.Context(), "app/api", img.Digest.String()); !errors.Is(err, errSink) {
			c.Errorf("Delete: %v", err)
		}
		if _, err := c.store.Tag(c.Context(), "app/api", "v1"); !errors.Is(err, store.ErrNotFound) {
			c.Errorf("the tag: %v", err)
		}
		c.stop()
		refuses = false
		for range 2 { // the second start has nothing to send
			c.start(sink)
			c.pass(0)
			c.stop()
		}
		c.start(sink)
		if len(c.events) != 1 {
			c.Fatalf("%d events", len(c.events))
		}
		ev := c.events[0]
		want := webhook.Target{MediaType: img.MediaType, Digest: img.Digest.String(), Repository: "app/api"}
		if ev.Action != "delete" || ev.Target != want || ev.ID == "" {
			c.Errorf("%+v", ev)
		}
		if err := c.cache.Delete(c.Context(), "app/api", img.Digest.String()); err != nil || len(c.events) != 1 {
			c.Errorf("deleted again: %v, %d events", err, len(c.events))
		}
		c.manifest("v1")
		c.pass(0)
		if err := c.cache.Delete(c.Context(), "app/api", "v1"); err != nil || len(c.events) != 3 {
			c.Errorf("a tag alone is no event: %v, %d events", err, len(c.events))
		}
	})
}

// stubborn is a store that deletes nothing.
type stubborn struct{ *store.Mem }

func (stubborn) Delete(context.Context, string, digest.Digest) error { return errStubborn }

var errStubborn = errors.New("the store deletes nothing")

// What was not deleted has no event, now or later.
func TestNoEventOfAFailedDeletion(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.stop()
		c.store = stubborn{&store.Mem{}}
		c.start()
		c.manifest("v1")
		c.pass(0)
		if err := c.cache.Delete(c.Context(), "app/api", img.Digest.String()); !errors.Is(err, errStubborn) {
			c.Errorf("%v", err)
		}
		c.stop()
		c.start()
		c.pass(time.Hour)
		for _, ev := range c.events {
			if ev.Action != "push" {
				c.Errorf("%+v", ev)
			}
		}
	})
}

// A copy that is under way when its manifest is deleted does not bring it back.
func TestDeleteGivesUpTheCopy(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 503})
		c.manifest("v1")
		c.pass(time.Minute)
		c.only("paused")
		if err := c.cache.Delete(c.Context(), "app/api", img.Digest.String()); err != nil {
			c.Fatal(err)
		}
		c.up.Heal()
		c.pass(time.Hour)
		if n := len(c.cache.Copies()); n != 0 || len(c.events) != 0 {
			c.Errorf("%d copies, %d events", n, len(c.events))
		}
	})
}

// Neither does one that is in the middle of its blobs, whatever is deleted.
func TestDeleteDuringTheCopy(t *testing.T) {
	for _, what := range []string{"tag", "digest"} {
		inBubble(t, func(c *clock) {
			img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
			c.manifest("v1")
			c.pass(time.Second)
			c.only("running")
			reference := "v1"
			if what == "digest" {
				reference = img.Digest.String()
			}
			if err := c.cache.Delete(c.Context(), "app/api", reference); err != nil {
				c.Fatal(err)
			}
			c.pass(time.Minute)
			_, tag := c.store.Tag(c.Context(), "app/api", "v1")
			_, manifest := c.store.Stat(c.Context(), "app/api", img.Digest)
			if !errors.Is(tag, store.ErrNotFound) || errors.Is(manifest, store.ErrNotFound) != (what == "digest") {
				c.Errorf("%s: tag %v, manifest %v", what, tag, manifest)
			}
			c.wantTags()
			c.up.Heal()
			c.manifest("v1")
			c.pass(0)
			if _, err := c.store.Tag(c.Context(), "app/api", "v1"); err != nil {
				c.Errorf("%s: the next pull does not copy again: %v", what, err)
			}
			c.wantTags("v1")
		})
	}
}
