package cache_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// Of an index of two platforms of which one is pulled, through all caches, each event is
// sent once, whichever cache copies the index and the image.
func TestIndexIsToldOnce(t *testing.T) {
	inCrew(t, 3, func(w *crew) {
		img := w.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
		amd := img.Children[0]
		// The image is copied by another cache than the index.
		indexes := 0
		w.owner = func(job cache.Job) int {
			if job.Digest == amd.Digest {
				return 1
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			indexes++
			return 0
		}
		for _, m := range w.member {
			m.pull("v1", amd.Digest.String())
			for _, l := range amd.Layers {
				m.pullBlob(l.Digest)
			}
		}
		w.settled()
		events := once(img)
		events["push "+amd.Digest.Encoded()[:6]] = 1
		w.want(3, events)
		w.mu.Lock()
		defer w.mu.Unlock()
		if indexes == 0 {
			w.Error("no cache gave the index away: that an image has come is no reason to copy the index on the spot")
		}
	})
}

// A tag that is seen while another cache copies the image is moved by that one too.
func TestFurtherTagOfWhatAnotherCopies(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		img := w.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		w.up.Tag("team/api", "v2", img.Digest)
		w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
		w.member[1].pull("v1")
		w.pass(time.Second)
		w.wantElsewhere(1, cache.JobComing)
		w.owner = func(cache.Job) int { // while it is given once more
			if all := w.member[1].cache.Copies(); len(all) != 1 || all[0].State != cache.CopyRunning || all[0].Elsewhere != "" {
				w.Errorf("%+v", all)
			}
			return 0
		}
		w.member[1].pull("v2")
		w.settled()
		events := once(img)
		events["push v2"] = 1
		w.want(3, events)
	})
}

// Two that copy at once, since they disagree about who is to, make one set of events.
func TestTwoOwnersTellOnce(t *testing.T) {
	inCrew(t, 4, func(w *crew) {
		img := w.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: time.Second})
		w.views = func(n int) int { return n % 2 } // for whom the first owner is which
		for _, m := range w.member {
			m.pull("v1")
		}
		w.settled()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.events["push v1"] != 1 || w.events["push "+img.Digest.Encoded()[:6]] > 2 {
			w.Errorf("%v", w.events)
		}
	})
}

// A copy that failed too often is parked where it runs, which its witnesses hear; a pull
// through one of them lets it run again.
func TestParkedElsewhere(t *testing.T) {
	inCrew(t, 2, func(w *crew) {
		img := w.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		w.up.Fail(upstreamtest.Fault{Kind: "blob", Status: 404})
		w.member[1].pull("v1")
		w.pass(time.Hour)
		state := func(n int) cache.CopyStatus {
			all := w.member[n].cache.Copies()
			if len(all) != 1 {
				w.Fatalf("cache %d: %v", n, all)
			}
			return all[0].State
		}
		if a, b := state(0), state(1); a != cache.CopyParked || b != cache.CopySubmitted {
			w.Fatalf("%s and %s", a, b)
		}
		w.wantElsewhere(0, "")
		w.wantElsewhere(1, cache.JobParked)
		w.up.Heal()
		w.pass(time.Hour)
		if a := state(0); a != cache.CopyParked {
			w.Fatalf("it runs by itself: %s", a)
		}
		w.member[1].pull("v1")
		w.settled()
		w.want(2, once(img))
	})
}

// wantElsewhere checks what a cache says of where its only copy is.
func (w *crew) wantElsewhere(n int, want cache.JobState) {
	w.Helper()
	c := w.member[n].cache
	if all := c.Copies(); len(all) != 1 || all[0].Elsewhere != want {
		w.Errorf("cache %d: %+v, want one that is %q elsewhere", n, all, want)
	}
	words := map[cache.JobState]string{
		"": "a copy failed too often and is parked", cache.JobComing: "a copy is made by another cache",
		cache.JobParked: "another cache, where it failed too often", cache.JobSending: "where its events wait for their receivers",
	}
	if x, err := c.Explain(w.Context(), "app/api", "v1"); err != nil || !strings.Contains(x.Text, words[want]) {
		w.Errorf("cache %d: %q, %v", n, x.Text, err)
	}
}

// What is deleted through one cache while another one copies it stays deleted.
func TestDeletedWhileAnotherCopies(t *testing.T) {
	for _, what := range []string{"tag", "digest", "repository"} {
		t.Run(what, func(t *testing.T) {
			inCrew(t, 3, func(w *crew) {
				img := w.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
				w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 10 * time.Second})
				w.member[1].pull("v1")
				w.pass(time.Second)
				w.remove(w.member[2], what, img)
				w.settled()
				_, tag := w.far.Tag(w.Context(), "app/api", "v1")
				_, manifest := w.far.Stat(w.Context(), "app/api", img.Digest)
				if !errors.Is(tag, store.ErrNotFound) || errors.Is(manifest, store.ErrNotFound) == (what == "tag") {
					w.Errorf("tag %v, manifest %v", tag, manifest)
				}
				w.up.Heal()
				w.member[1].pull("v1") // the next pull copies again
				w.settled()
				if _, err := w.far.Tag(w.Context(), "app/api", "v1"); err != nil {
					w.Error(err)
				}
			})
		})
	}
}

// One that was away while its copy was deleted does not bring it back.
func TestDeletedWhileTheOwnerIsAway(t *testing.T) {
	inCrew(t, 3, func(w *crew) {
		img := w.dies(death{step: "manifest"})
		w.member[0].stop()
		w.remove(w.member[2], "digest", img)
		w.member[0].start(true)
		w.settled()
		if _, err := w.far.Stat(w.Context(), "app/api", img.Digest); !errors.Is(err, store.ErrNotFound) {
			w.Errorf("%v", err)
		}
		w.want(0, map[string]int{})
	})
}

// What one cache deletes, the others do not serve from memory.
func TestDeletionIsForgottenEverywhere(t *testing.T) {
	for _, what := range []string{"tag", "digest", "repository"} {
		t.Run(what, func(t *testing.T) {
			inCrew(t, 3, func(w *crew) {
				img := w.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
				for _, m := range w.member {
					m.pull("v1")
				}
				w.settled()
				for _, m := range w.member {
					m.pull("v1", img.Digest.String())
				}
				w.remove(w.member[2], what, img)
				w.up.Fail(upstreamtest.Fault{Status: 503})
				for _, m := range w.member {
					if x, err := m.cache.Explain(w.Context(), "app/api", "v1"); err != nil || x.Stored {
						w.Errorf("cache %d: %v, %v", m.n, x.Text, err)
					}
					x, err := m.cache.Explain(w.Context(), "app/api", img.Digest.String())
					if err != nil || x.Stored != (what == "tag") {
						w.Errorf("cache %d: %v, %v", m.n, x.Text, err)
					}
				}
				events := w.withDeletion(img, what)
				w.want(len(events), events)
				w.up.Heal()
				w.member[0].pull("v1")
				w.settled()
				w.up.Fail(upstreamtest.Fault{Status: 503})
				w.member[1].pull("v1", img.Digest.String())
			})
		})
	}
}

// remove deletes something through a cache.
func (w *crew) remove(m *member, what string, img upstreamtest.Image) {
	w.Helper()
	var err error
	switch what {
	case "tag":
		err = m.cache.Delete(w.Context(), "app/api", "v1")
	case "digest":
		err = m.cache.Delete(w.Context(), "app/api", img.Digest.String())
	default:
		err = m.cache.DeleteRepository(w.Context(), "app/api")
	}
	if err != nil {
		w.Fatal(err)
	}
}

// withDeletion are the events of an image that is deleted through one cache.
func (w *crew) withDeletion(img upstreamtest.Image, what string) map[string]int {
	events := once(img)
	if what != "tag" {
		events["delete "+img.Digest.Encoded()[:6]] = 1
	}
	return events
}
