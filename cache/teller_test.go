package cache_test

import (
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// once is what the events of one image with a tag are, each sent once.
func once(img upstreamtest.Image) map[string]int {
	return map[string]int{"push v1": 1, "push " + img.Digest.Encoded()[:6]: 1}
}

// One of several caches copies an image that all of them are asked for, and sends its
// events.
func TestOneCacheCopiesForAll(t *testing.T) {
	for _, pullers := range [][]int{{0, 1, 2}, {1, 2}, {2}, {0}, {2, 0}} {
		inCrew(t, 3, func(w *crew) {
			img := w.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
			for _, n := range pullers {
				w.member[n].pull("v1")
			}
			w.settled()
			w.want(2, once(img))
			for _, l := range img.Layers {
				if n := w.up.Count("GET", "blob", l.Digest.String()); n != 1 {
					w.Errorf("%d downloads", n)
				}
			}
			for _, m := range w.member {
				m.pull("v1", img.Digest.String())
			}
			w.settled()
			w.want(2, once(img)) // and what is stored has no further ones
		})
	}
}

// death is a step before which the cache that copies dies.
type death struct {
	step string
	// twice says which events are sent twice then, with one ID: those that were sent
	// already, if nothing says so any more.
	tag, image bool
	// told says that the records of the cache say that the events were sent.
	told bool
}

var deaths = []death{
	{step: "accept"},
	{step: "put jobs"},
	{step: "accepted"},
	{step: "create"},
	{step: "manifest"},
	{step: "tag"},
	{step: "tagged"},
	{step: "event"},
	{step: "event sent", tag: true},
	{step: "put told", tag: true, image: true},
	{step: "delete jobs", tag: true, image: true, told: true},
}

// dies lets two caches give a job to a third one that dies, and returns the image.
func (w *crew) dies(d death) upstreamtest.Image {
	w.Helper()
	img := w.up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	w.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 20 * time.Millisecond}) // so that both have given it before
	w.member[0].crash = d.step
	w.member[1].pull("v1")
	w.member[2].pull("v1")
	w.pass(150 * time.Millisecond)
	if _, ok := w.member[0].alive(); ok {
		w.Fatal("it lives on")
	}
	return img
}

// wantAfter checks the events after a death.
func (w *crew) wantAfter(img upstreamtest.Image, d death) {
	w.Helper()
	events := once(img)
	if d.tag {
		events["push v1"]++
	}
	if d.image {
		events["push "+img.Digest.Encoded()[:6]]++
	}
	w.want(2, events)
	if t, err := w.far.Tag(w.Context(), "app/api", "v1"); err != nil || t.Digest != img.Digest {
		w.Errorf("the tag: %v, %v", t, err)
	}
}

// A cache that dies while it copies for others, and comes back with its records, goes on.
func TestOwnerComesBackAtOnce(t *testing.T) {
	for _, d := range deaths {
		t.Run(d.step, func(t *testing.T) {
			inCrew(t, 3, func(w *crew) {
				img := w.dies(d)
				w.member[0].stop()
				w.member[0].start(true)
				w.settled()
				if d.told {
					d = death{}
				}
				w.wantAfter(img, d)
			})
		})
	}
}

// One that comes back late finds that a witness has taken over.
func TestOwnerComesBackLate(t *testing.T) {
	for _, d := range deaths {
		t.Run(d.step, func(t *testing.T) {
			inCrew(t, 3, func(w *crew) {
				img := w.dies(d)
				w.member[0].stop()
				w.pass(time.Minute)
				w.member[0].start(true)
				w.settled()
				w.wantAfter(img, d)
			})
		})
	}
}

// One that comes back with nothing, or never, has its witnesses.
func TestOwnerIsLost(t *testing.T) {
	for _, d := range deaths {
		for _, back := range []string{"at once", "late", "never"} {
			t.Run(d.step+" "+back, func(t *testing.T) {
				inCrew(t, 3, func(w *crew) {
					img := w.dies(d)
					if back != "at once" {
						w.pass(time.Minute)
					}
					if back != "never" {
						w.member[0].stop()
						w.member[0].start(false)
					}
					w.settled()
					w.wantAfter(img, d)
				})
			})
		}
	}
}
