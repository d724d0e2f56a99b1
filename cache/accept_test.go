package cache_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// given is a job that cache 1 gives away, as it is on the wire.
func given(w *crew) (cache.Job, upstreamtest.Image) {
	w.Helper()
	img := w.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	var job cache.Job
	w.owner = func(j cache.Job) int { job = j; return 1 }
	w.member[1].pull("v1")
	w.settled()
	if job.ID == "" {
		w.Fatal("nothing was given")
	}
	w.remove(w.member[1], "repository", img)
	w.pass(time.Minute)
	edit(&job, func(j map[string]any) { j["created"] = time.Now() })
	return job, img
}

// edit changes the data of a job.
func edit(job *cache.Job, change func(map[string]any)) {
	var data map[string]any
	if err := json.Unmarshal(job.Data, &data); err != nil {
		panic(err)
	}
	change(data)
	out, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	job.Data = out
}

// Nothing of a job of another cache is believed that can be checked.
func TestAcceptBelievesNothing(t *testing.T) {
	all := func(key string, value any) func(*cache.Job) {
		return func(j *cache.Job) { edit(j, func(d map[string]any) { d[key] = value }) }
	}
	tag := func(name string, seen any) func(*cache.Job) {
		return all("tags", []any{map[string]any{"tag": name, "asked": seen}})
	}
	now := time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC) // a bubble begins a day before
	other := upstream.Source{Rule: "team", Host: source, Repository: "other/api"}
	for name, change := range map[string]func(*cache.Job){
		"no data":           func(j *cache.Job) { j.Data = nil },
		"data of another":   func(j *cache.Job) { j.ID = "other" },
		"another digest":    func(j *cache.Job) { j.Digest = digest.FromString("x") },
		"another source":    func(j *cache.Job) { j.Source = other; all("source", other)(j) },
		"another rule":      func(j *cache.Job) { j.Source.Rule = "x"; all("source", j.Source)(j) },
		"no rule":           func(j *cache.Job) { j.Repository = "none/api"; all("repository", "none/api")(j) },
		"a bad name":        func(j *cache.Job) { j.Repository = "../api"; all("repository", "../api")(j) },
		"another manifest":  all("manifest", []byte(`{}`)),
		"no manifest":       all("manifest", nil),
		"a large manifest":  all("manifest", make([]byte, upstream.MaxManifestSize+1)),
		"no ID":             func(j *cache.Job) { j.ID = ""; all("id", "")(j) },
		"a long ID":         func(j *cache.Job) { j.ID = strings.Repeat("x", 200); all("id", j.ID)(j) },
		"an ID with blanks": func(j *cache.Job) { j.ID = "a b"; all("id", j.ID)(j) },
		"a media type":      all("mediaType", "text/html\r\nx: y"),
		"schema 1":          all("mediaType", "application/vnd.docker.distribution.manifest.v1+json"),
		"a bad tag":         tag("../x", now),
		"a future tag":      tag("v1", now.Add(time.Hour)),
		"an unseen tag":     all("tags", []any{map[string]any{"tag": "v1"}}),
		"many tags": func(j *cache.Job) {
			all("tags", slicesOf(257, map[string]any{"tag": "v1", "asked": now}))(j)
		},
		"many platforms":  all("platforms", slicesOf(100, "linux/amd64")),
		"a long platform": all("platforms", []string{strings.Repeat("x", 1000)}),
		"deep":            all("depth", 1000),
		"below zero":      all("depth", -1),
		"much else":       all("request", map[string]any{"id": strings.Repeat("x", 1<<20)}),
	} {
		t.Run(name, func(t *testing.T) {
			inCrew(t, 2, func(w *crew) {
				job, _ := given(w)
				change(&job)
				id, err := w.member[0].cache.Accept(w.Context(), job)
				if err == nil || id != "" || errors.Is(err, cache.ErrDeleted) || len(err.Error()) > 1000 {
					w.Errorf("%q, %v", id, err)
				}
				w.pass(time.Minute)
				if n := len(w.member[0].cache.Copies()); n != 0 {
					w.Errorf("%d copies", n)
				}
			})
		})
	}
}

func slicesOf[T any](n int, v T) (all []T) {
	for range n {
		all = append(all, v)
	}
	return all
}

// A job that is accepted is written down, has its ID, and is one with others of its
// manifest.
func TestAccept(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		job, img := given(w)
		w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		m := w.member[0]
		for range 2 {
			id, err := m.cache.Accept(w.Context(), job)
			if err != nil || id != job.ID {
				w.Fatalf("%q, %v", id, err)
			}
		}
		second := job
		second.ID = "SECOND"
		edit(&second, func(d map[string]any) { d["id"] = second.ID })
		if id, err := m.cache.Accept(w.Context(), second); err != nil || id != job.ID {
			w.Errorf("%q, %v", id, err)
		}
		n := 0
		for range m.records.RecordKeys(w.Context(), "jobs") {
			n++
		}
		if at, err := m.cache.JobState(w.Context(), job); err != nil || at.State != cache.JobComing || at.ID != job.ID || n != 1 {
			w.Errorf("%+v, %v, %d records", at, err, n)
		}
		w.settled()
		if at, err := m.cache.JobState(w.Context(), job); err != nil || at.State != cache.JobTold {
			w.Errorf("%+v, %v", at, err)
		}
		if err := m.cache.Delete(w.Context(), "app/api", img.Digest.String()); err != nil {
			w.Fatal(err)
		}
		if at, err := m.cache.JobState(w.Context(), job); err != nil || at.State != cache.JobDeleted {
			w.Errorf("%+v, %v", at, err)
		}
		if _, err := m.cache.Accept(w.Context(), job); !errors.Is(err, cache.ErrDeleted) {
			w.Errorf("after the deletion: %v", err)
		}
		job.Data = []byte("x")
		if at, err := m.cache.JobState(w.Context(), job); err == nil {
			w.Errorf("%+v", at)
		}
	})
}

// A cache whose Copier is no Teller cannot say what becomes of a job, and takes none. One
// that has many takes no more.
func TestAcceptRefuses(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		job, _ := given(w)
		plain := &cache.Cache{Rules: w.rules, Store: &store.Mem{}, Upstream: &upstream.Client{Transport: inMemory{w.up}}}
		if _, err := plain.Accept(w.Context(), job); err == nil {
			w.Error("it is taken")
		}
		_ = plain.Shutdown(w.Context())
		m := w.member[0]
		m.stop()
		m.limits.MaxJobs = 1
		m.start(false)
		w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		w.up.AddImage("team/api", "v2", upstreamtest.Layers(1, 2000))
		m.pull("v2")
		w.pass(time.Second)
		if _, err := m.cache.Accept(w.Context(), job); !errors.Is(err, cache.ErrTooManyCopies) {
			w.Errorf("%v", err)
		}
	})
}

// A store that belongs to one cache alone follows a deletion of another.
func TestForgetInAStoreOfItsOwn(t *testing.T) {
	for _, what := range []string{"v1", "digest", ""} {
		inBubble(t, func(c *clock) {
			img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			c.manifest("v1")
			c.pass(time.Minute)
			before := len(c.events)
			d := cache.Deletion{Repository: "app/api", Reference: what, At: time.Now()}
			if what == "digest" {
				d.Reference = img.Digest.String()
			}
			forget := func() {
				if err := c.cache.Forget(c.Context(), d); err != nil {
					c.Fatal(err)
				}
			}
			forget()
			_, tag := c.store.Tag(c.Context(), "app/api", "v1")
			_, manifest := c.store.Stat(c.Context(), "app/api", img.Digest)
			_, blob := c.store.Stat(c.Context(), "app/api", img.Layers[0].Digest)
			gone := func(err error) bool { return errors.Is(err, store.ErrNotFound) }
			if !gone(tag) || gone(manifest) != (what != "v1") || gone(blob) != (what == "") || len(c.events) != before {
				c.Errorf("%q: tag %v, manifest %v, blob %v, %d events", what, tag, manifest, blob, len(c.events)-before)
			}
			c.pass(time.Second)
			c.manifest("v1")
			c.pass(time.Minute)
			if what != "v1" {
				return
			}
			forget() // told again: the tag was asked for since
			if _, err := c.store.Tag(c.Context(), "app/api", "v1"); err != nil {
				c.Error(err)
			}
		})
	}
}

// What cannot be forgotten is an error, and so is what is no deletion.
func TestForgetFails(t *testing.T) {
	inBubble(t, func(c *clock) {
		for _, d := range []cache.Deletion{{}, {Repository: "../x"}, {Repository: "app/api", Reference: "../x"}, {Repository: "app/api", Reference: "sha256:x"}} {
			err := c.cache.Forget(c.Context(), d)
			if e, ok := errors.AsType[*cache.Error](err); !ok || e.Status >= 500 {
				c.Errorf("%+v: %v", d, err)
			}
		}
		c.stop()
		c.store = struct{ store.Store }{c.store}
		c.start()
		for _, reference := range []string{"v1", ""} {
			if err := c.cache.Forget(c.Context(), cache.Deletion{Repository: "app/api", Reference: reference}); !errors.Is(err, errors.ErrUnsupported) {
				c.Errorf("%v", err)
			}
		}
	})
}
