package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// with returns a job with another ID and other data.
func with(job cache.Job, id string, data map[string]any) cache.Job {
	job.ID = id
	edit(&job, func(d map[string]any) {
		d["id"] = id
		for k, v := range data {
			d[k] = v
		}
	})
	return job
}

// accept lets a cache take a job over.
func (m *member) accept(job cache.Job) {
	m.Helper()
	if id, err := m.cache.Accept(m.Context(), job); err != nil || id != job.ID {
		m.Fatalf("%q, %v", id, err)
	}
}

// written is the only job in the records of a cache.
func (m *member) written() (job map[string]any) {
	m.Helper()
	for key, err := range m.records.RecordKeys(m.Context(), "jobs") {
		data, err2 := m.records.Record(m.Context(), "jobs", key)
		if err := errors.Join(err, err2, json.Unmarshal(data, &job)); err != nil {
			m.Fatal(err)
		}
	}
	return job
}

// What a job says of the copy and its events is kept; when it was made, as far as that can be; and
// nothing of how it went elsewhere.
func TestAcceptedJobIsWrittenDown(t *testing.T) {
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }
	request := map[string]any{"id": "R", "host": "cache.example.com", "method": "GET"}
	for name, c := range map[string]struct {
		key  string
		sent func() any
		want func() any // nil if it is that; a nil value is none
	}{
		"the pull":           {"request", func() any { return request }, nil},
		"depth":              {"depth", func() any { return 2.0 }, nil},
		"platforms":          {"platforms", func() any { return []any{"linux/arm64"} }, nil},
		"owed":               {"owed", func() any { return true }, nil},
		"a skewed tag":       {"tags", func() any { return []any{map[string]any{"tag": "v2", "asked": at(59 * time.Second)}} }, nil},
		"made a while ago":   {"created", func() any { return at(-time.Second) }, nil},
		"made in the future": {"created", func() any { return at(time.Second) }, func() any { return at(0) }},
		"made never":         {"created", func() any { return time.Time{} }, func() any { return at(0) }},
		"failed elsewhere":   {"attempts", func() any { return 3.0 }, func() any { return nil }},
		"parked elsewhere":   {"parked", func() any { return true }, func() any { return nil }},
		"handed elsewhere":   {"handed", func() any { return true }, func() any { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			inCrew(t, 2, func(w *crew) {
				job, _ := given(w)
				w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
				sent := c.sent()
				want := sent
				if c.want != nil {
					want = c.want()
				}
				w.member[0].accept(with(job, job.ID, map[string]any{c.key: sent}))
				if got := w.member[0].written()[c.key]; !reflect.DeepEqual(got, want) {
					w.Errorf("%v, want %v", got, want)
				}
			})
		})
	}
}

// A tag that was deleted since it was seen is not in the job, so that a process that knows of no
// deletion, such as the next one, does not bring it back.
func TestAcceptWithoutTagsThatWereDeleted(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		job, img := given(w) // and its repository was deleted
		w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		m := w.member[0]
		m.accept(with(job, "SECOND", nil)) // which the other cache does not know
		m.stop()
		m.start(true)
		w.settled()
		_, tag := w.far.Tag(w.Context(), "app/api", "v1")
		if _, err := w.far.Stat(w.Context(), "app/api", img.Digest); err != nil || !errors.Is(tag, store.ErrNotFound) {
			w.Errorf("manifest %v, tag %v", err, tag)
		}
	})
}

// A job whose own event is not owed brings no second one, even if it joins one that owes events.
func TestAcceptedJobOwesNoEventThatItDoesNotOwe(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		job, img := given(w)
		m := w.member[0]
		m.stop()
		m.limits.Jobs = 1
		m.start(false)
		w.owner = nil
		m.pull("v1")
		w.settled()
		w.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 2000))
		w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		m.pull("v2") // and the others wait
		w.pass(time.Second)
		made := map[string]any{"created": time.Now(), "tags": nil, "owed": true, "incomplete": false}
		m.accept(with(job, "FIRST", made))
		made["owed"], made["incomplete"] = false, true
		if id, err := m.cache.Accept(w.Context(), with(job, "SECOND", made)); id != "FIRST" || err != nil {
			w.Fatalf("%q, %v", id, err)
		}
		w.settled()
		if n := w.events["push "+img.Digest.Encoded()[:6]]; n != 2 { // that of given, and one
			w.Errorf("%d events of the image", n)
		}
	})
}

// laxRules has an answer for every name.
type laxRules struct{ *rule.Set }

func (l laxRules) Match(ctx context.Context, name string) (*rule.Match, error) {
	m, err := l.Set.Match(ctx, "app/api")
	if err == nil {
		other := *m
		other.Repository, m = name, &other
	}
	return m, err
}

// The names and the manifest of a job are checked, whatever the rules make of them.
func TestAcceptKeepsToNames(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		job, _ := given(w)
		hub := rule.Rule{Name: "hub", Source: "docker.io/*", Target: "hub/*"}
		if err := w.rules.Create(hub); err != nil {
			w.Fatal(err)
		}
		lax := &cache.Cache{Rules: laxRules{w.rules}, Store: &store.Mem{}, Upstream: &upstream.Client{Transport: inMemory{w.up}}, Copier: desk{w.member[0]}}
		defer func() { _ = lax.Shutdown(context.Background()) }()
		named := func(name string) cache.Job {
			job := job
			job.Repository = name
			return with(job, job.ID, map[string]any{"repository": name})
		}
		short := named("hub/alpine")
		short.Source = upstream.Source{Rule: "hub", Host: "docker.io", Repository: "library/alpine"}
		short = with(short, job.ID, map[string]any{"source": short.Source})
		bad := job
		bad.Digest = digest.FromString("{")
		bad = with(bad, job.ID, map[string]any{"digest": bad.Digest, "manifest": []byte("{")})
		for name, c := range map[string]struct {
			at  *cache.Cache
			job cache.Job
		}{
			"no name":      {lax, named("App/../api")},
			"a short name": {w.member[0].cache, short},
			"no manifest":  {w.member[0].cache, bad},
		} {
			if id, err := c.at.Accept(w.Context(), c.job); err == nil {
				w.Errorf("%s: %q", name, id)
			}
		}
		if id, err := lax.Accept(w.Context(), named("any/name")); err != nil {
			w.Errorf("%q, %v", id, err)
		}
	})
}

// Who goes away before a job is written down does not hear that it was taken.
func TestAcceptEndsWithItsContext(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		job, _ := given(w)
		why := errors.New("no time left")
		ctx, cancel := context.WithCancelCause(w.Context())
		cancel(why)
		if _, err := w.member[0].cache.Accept(ctx, job); !errors.Is(err, why) {
			w.Errorf("%v", err)
		}
	})
}

// lateRecords are records that take a minute to list.
type lateRecords struct{ *store.Mem }

func (s lateRecords) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	time.Sleep(time.Minute)
	return s.Mem.RecordKeys(ctx, kind)
}

// A cache that has not read its records yet does not say that it has nothing to do with a job.
func TestStateOfAJobWaitsForTheRecords(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		job, _ := given(w)
		c := &cache.Cache{Rules: w.rules, Store: lateRecords{&store.Mem{}}, Upstream: &upstream.Client{Transport: inMemory{w.up}}, Copier: desk{w.member[0]}}
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if at, err := c.JobState(ctx, job); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("%+v, %v", at, err)
		}
		if at, err := c.JobState(w.Context(), job); err != nil || at.State != cache.JobUnknown {
			w.Errorf("%+v, %v", at, err)
		}
		if err := c.Shutdown(context.Background()); err != nil {
			w.Error(err)
		}
	})
}

// A job that runs here, whoever asked for it, is no job that nobody has.
func TestStateOfAJobOfOnesOwn(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		job, _ := given(w)
		w.owner = nil
		w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		w.member[0].pull("v1")
		w.pass(time.Second)
		if at, err := w.member[0].cache.JobState(w.Context(), job); err != nil || at.State != cache.JobComing || at.ID == "" {
			w.Errorf("%+v, %v", at, err)
		}
		w.settled()
	})
}

// withWaiting lets the caches have outboxes whose receiver is down.
func withWaiting(w *crew) {
	w.outbox, w.hook = true, webhooktest.NewHandler()
	w.hook.Stop()
}

// fromTags are sightings of now as the data of a job has them.
func fromTags(names ...string) (tags []any) {
	for _, name := range names {
		tags = append(tags, map[string]any{"tag": name, "asked": time.Now()})
	}
	return tags
}

// A job is told if it was done, or if others told all that it may come to after it was made.
func TestStateOfAJobThatOthersCover(t *testing.T) {
	for _, outbox := range []bool{false, true} {
		inCrew(t, 2, func(w *crew) {
			job, img := given(w)
			w.up.Tag("team/api", "v2", img.Digest)
			w.up.Tag("team/api", "v3", img.Digest)
			before := time.Now()
			w.pass(time.Second)
			m := w.member[0]
			w.owner = func(cache.Job) int { return 1 } // who tells of the image and v1
			w.member[1].pull("v1")
			w.pass(time.Minute)
			own := with(job, "OWN", map[string]any{"created": before, "incomplete": true, "tags": nil})
			w.owner = nil
			m.pull("v2") // which is told here
			w.pass(time.Minute)
			after := time.Now()
			w.pass(time.Second)
			done := cache.JobTold
			if outbox {
				done = cache.JobSending
			}
			ask := func(name string, job cache.Job, want cache.JobState) {
				w.Helper()
				if at, err := m.cache.JobState(w.Context(), job); err != nil || at.State != want {
					w.Errorf("outbox %v: %s: %+v, %v, want %q", outbox, name, at, err, want)
				}
			}
			of := func(created time.Time, incomplete bool, tags ...string) cache.Job {
				return with(job, "OTHER", map[string]any{"created": created, "incomplete": incomplete, "tags": fromTags(tags...)})
			}
			ask("the tag", of(before, false, "v2"), done)
			ask("seen later", of(after, false, "v2"), cache.JobUnknown)
			ask("with another tag", of(before, false, "v2", "v3"), cache.JobUnknown)
			ask("nothing that is told", of(before, false), cache.JobUnknown)
			ask("with the image", of(before, true, "v2"), cache.JobUnknown)
			ask("the image", of(before, true), cache.JobUnknown)
			m.accept(with(own, own.ID, map[string]any{"owed": true}))
			w.pass(time.Minute)
			ask("the image, which is told now", of(before, true), done)
			ask("with the image, which is told now", of(before, true, "v2"), done)
			ask("the job that told it", own, done)
		}, func(w *crew) {
			if outbox {
				withWaiting(w)
			}
		})
	}
}

// A job that was done is told, although another one of its manifest is under way.
func TestStateOfAJobWhileAnotherRuns(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		job, _ := given(w)
		m := w.member[0]
		m.accept(job)
		w.pass(time.Minute)
		moving.Lock() // so that no tag moves
		second := with(job, "SECOND", map[string]any{"created": time.Now(), "tags": fromTags("v2")})
		id, err := m.cache.Accept(w.Context(), second)
		first, err1 := m.cache.JobState(w.Context(), job)
		at, err2 := m.cache.JobState(w.Context(), second)
		moving.Unlock()
		if id != "SECOND" || at.State != cache.JobComing || first.State != cache.JobTold || errors.Join(err, err1, err2) != nil {
			w.Errorf("%q: %+v, and the first one %+v: %v", id, at, first, errors.Join(err, err1, err2))
		}
		w.settled()
	})
}

// What is remembered of the jobs of a manifest is bounded: its last jobs, and some hundred tags.
func TestWhatWasToldIsBounded(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		job, _ := given(w)
		m := w.member[0]
		var jobs []cache.Job
		for n := range 20 {
			data := map[string]any{"created": time.Now(), "tags": nil, "incomplete": false}
			if n < 3 {
				var names []string
				for i := range 200 {
					names = append(names, fmt.Sprint("t", n, "-", i))
				}
				data["tags"] = fromTags(names...)
			}
			jobs = append(jobs, with(job, fmt.Sprint("JOB", n), data))
			m.accept(jobs[n])
			w.pass(time.Minute)
		}
		var told []int
		for n, job := range jobs {
			if at, err := m.cache.JobState(w.Context(), job); err != nil {
				w.Error(err)
			} else if at.State == cache.JobTold {
				told = append(told, n)
			}
		}
		// Of the first three, the last one's tags are still known.
		if want := []int{2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}; !slices.Equal(told, want) {
			w.Errorf("%v are told, want %v", told, want)
		}
	})
}
