package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// imageRig is a rig with images, a receiver of events, and perhaps an object store.
type imageRig struct {
	*fleetRig
	hook *webhooktest.Recorder
	far  *farStore // nil if there is none
}

// newImageRig makes three replicas, whose stores are tiers with far if that is not nil.
func newImageRig(t *testing.T, far *farStore) *imageRig {
	t.Helper()
	r := &imageRig{fleetRig: newFleetRig(t, 3), hook: webhooktest.New(t), far: far}
	for _, p := range r.replicas {
		p.Segments, p.Hook = 1, r.hook.URL()
		if far != nil {
			p.Far = far.farConfig
		}
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

// events says how often each event of an image was told.
func (r *imageRig) events(img upstreamtest.Image, tag string) string {
	r.t.Helper()
	times := map[string]int{}
	for _, ev := range r.hook.Events() {
		times[strings.TrimSpace(ev.Target.Digest+" "+ev.Target.Tag)]++
	}
	return fmt.Sprintf("%d with its tag, %d without", times[img.Digest.String()+" "+tag], times[img.Digest.String()])
}

// TestFleetStores pulls an image by its tag from all replicas, over each kind of store.
func TestFleetStores(t *testing.T) {
	b := newTable(t, "store", "copies by", "upstream sent", "object store, cold", "events", "object store, warm", "upstream, warm")
	for _, kind := range []string{"", "versitygw", "azurite"} {
		t.Run("store "+kind, func(t *testing.T) {
			var far *farStore
			if kind != "" {
				far = newFarStore(t, kind)
			}
			r := newImageRig(t, far)
			size, rate := fleetScale()
			img := r.addImage("v1", size)
			r.up.Pace(rate)
			r.start(r.replicas...)
			var before farCount
			if far != nil {
				before = far.count()
			}
			r.pullImage("v1", img)
			r.settle()
			time.Sleep(time.Second)
			var cold, warm farCount
			if far != nil {
				cold = far.since(before)
				before = far.count()
			}
			sent := r.sent(img)
			r.pullImage("v1", img)
			if far != nil {
				warm = far.since(before)
			}
			b.add(kind, "each", fmt.Sprintf("%.3f x", sent), cold.of(size), r.events(img, "v1"), warm.of(size), fmt.Sprintf("%.3f x", r.sent(img)))
		})
	}
}
