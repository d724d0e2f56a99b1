package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// imageRig is a rig with images, a receiver of events, and perhaps an object store.
type imageRig struct {
	*fleetRig
	hook *webhooktest.Recorder
	far  *farStore
}

// newImageRig makes three replicas. If far runs, their stores are tiers with it. One
// of them copies for all if owner says so.
func newImageRig(t *testing.T, far *farStore, owner bool) *imageRig {
	t.Helper()
	r := &imageRig{fleetRig: newFleetRig(t, 3), hook: webhooktest.New(t), far: far}
	for _, p := range r.replicas {
		p.Segments, p.Hook, p.Owner = 1, r.hook.URL(), owner
		p.Far = far.farConfig
	}
	return r
}

// addImage adds an image of one layer to the upstream.
func (r *imageRig) addImage(tag string, size int) upstreamtest.Image {
	return r.up.AddImage("team/app", tag, [][]byte{upstreamtest.Bytes(uint64(time.Now().UnixNano()), size)})
}

// pullImage pulls an image by its tag as two clients of each replica do, and fails unless all
// get it. It returns what they saw of the layer.
func (r *imageRig) pullImage(tag string, img upstreamtest.Image, replicas ...int) []pulled {
	r.t.Helper()
	layer, p := img.Layers[0].Digest, &pulls{r: r.fleetRig}
	if len(replicas) == 0 {
		replicas = []int{0, 1, 2, 0, 1, 2}
	}
	for _, i := range replicas {
		p.wg.Go(func() {
			if m := r.pull(i, "manifests/"+tag); !m.good(img.Digest) {
				r.t.Errorf("the manifest: %v", m)
			}
			if c := r.pull(i, "blobs/"+img.Config.Digest.String()); !c.good(img.Config.Digest) {
				r.t.Errorf("the config: %v", c)
			}
			l := r.pull(i, "blobs/"+layer.String())
			if !l.good(layer) {
				r.t.Errorf("the layer: %v", l)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.all = append(p.all, l)
		})
	}
	return p.wait()
}

// settle waits until no replica that runs has a copy to finish.
func (r *imageRig) settle() {
	r.t.Helper()
	r.until("all copies are finished", func() bool {
		for _, p := range r.replicas {
			if p.process == nil {
				continue
			}
			if s, ok := p.stats(); !ok || s.Cache.Jobs > 0 || s.Cache.Downloads > 0 {
				return false
			}
		}
		return true
	})
}

// sent is how often the upstream sent the layer of an image.
func (r *imageRig) sent(img upstreamtest.Image) float64 {
	return float64(r.up.BlobBytes(img.Layers[0].Digest)) / float64(img.Layers[0].Size)
}

// told is how often each event of a manifest was told.
func (r *imageRig) told(m upstreamtest.Image, tag string) (times int) {
	seen := map[string]bool{} // an event that is delivered again has the same ID
	for _, ev := range r.hook.Events() {
		if ev.Target.Digest == m.Digest.String() && ev.Target.Tag == tag && !seen[ev.ID] {
			seen[ev.ID] = true
			times++
		}
	}
	return times
}

// events says how often the events of an image were told.
func (r *imageRig) events(img upstreamtest.Image, tag string) string {
	return fmt.Sprintf("%d with its tag, %d without", r.told(img, tag), r.told(img, ""))
}

// wantOneSet waits until the events of an image were told, with its tag and without, and fails
// if one was told twice.
func (r *imageRig) wantOneSet(img upstreamtest.Image, tag string) {
	r.t.Helper()
	r.until("the events are told", func() bool { return r.told(img, tag) > 0 && r.told(img, "") > 0 })
	r.settle()
	if got := r.events(img, tag); got != "1 with its tag, 1 without" {
		r.t.Errorf("events: %s", got)
	}
}

// TestFleetStores pulls an image by its tag from all replicas, over each kind of store. With
// one that they share, and one replica that copies for all, everything happens once.
func TestFleetStores(t *testing.T) {
	b := newTable(t, "store", "copies by", "upstream sent", "events", "object store: cold", "next pull", "warm")
	for _, c := range []struct {
		store string // what is far; empty: none
		alone bool
		owner bool
		once  float64 // how often the upstream sends the layer
		sets  int     // of events
	}{
		{store: "", alone: true, once: 3, sets: 3},
		{store: "", once: 1, sets: 3},
		{store: "versitygw", owner: true, once: 1, sets: 1},
		{store: "azurite", owner: true, once: 1, sets: 1},
	} {
		name := "Dir"
		if c.store != "" {
			name = "Tier with " + c.store
		}
		if c.alone {
			name += ", no fleet"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far := &farStore{}
			if c.store != "" {
				far = newFarStore(t, c.store)
			}
			r := newImageRig(t, far, c.owner)
			for _, p := range r.replicas {
				if c.alone {
					p.Listen = ""
				}
			}
			size, rate := fleetScale()
			img := r.addImage("v1", size)
			r.up.Pace(rate)
			r.start(r.replicas...)
			before := far.count()
			r.pullImage("v1", img)
			r.settle()
			r.until("the events are told", func() bool { return r.told(img, "v1") >= c.sets && r.told(img, "") >= c.sets })
			cold := far.since(before)
			before = far.count()
			r.pullImage("v1", img) // those that have not copied it take the manifest near
			next := far.since(before)
			before = far.count()
			r.pullImage("v1", img)
			warm := far.since(before)
			b.add(name, map[bool]string{true: "one", false: "each"}[c.owner], fmt.Sprintf("%.3f x", r.sent(img)), r.events(img, "v1"), cold.of(size), next.of(size), warm.of(size))
			if want := fmt.Sprintf("%d with its tag, %[1]d without", c.sets); r.events(img, "v1") != want {
				t.Errorf("events: %s, want %s", r.events(img, "v1"), want)
			}
			if got := r.sent(img); got != c.once {
				t.Errorf("the upstream sent %.3f times the layer, want %.3f", got, c.once)
			}
			if got := float64(cold.sent) / float64(size); c.owner && (got < 1 || got > 1.01) {
				t.Errorf("%.2f times the layer went to the object store", got)
			}
			if warm.requests > 0 {
				t.Errorf("a warm pull took %d requests to the object store", warm.requests)
			}
		})
	}
}
