package e2e

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestFleetStoreDown ends the object store that the replicas share. What they have is served,
// and what is new costs one fetch; when the object store is back, its copy ends. A replica that
// comes later gets everything from there.
func TestFleetStoreDown(t *testing.T) {
	b := newTable(t, "object store", "what", "upstream sent", "events", "asked of the object store")
	for _, kind := range []string{"versitygw", "azurite"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			far := newFarStore(t, kind)
			r := newImageRig(t, far, true)
			const size = 8 << 20
			old, fresh := r.addImage("v1", size), r.addImage("v2", size)
			r.up.Pace(16 << 20)
			r.start(r.replicas...)
			r.pullImage("v1", old)
			r.wantOneSet(old, "v1")
			r.pullImage("v1", old) // the manifest comes near
			line := func(what string, img upstreamtest.Image, tag string, before farCount) {
				b.add(kind, what, fmt.Sprintf("%.3f x", r.sent(img)), r.events(img, tag), far.since(before).of(size))
			}

			far.end()
			before := far.count()
			r.pullImage("v1", old)
			line("down: a stored image", old, "v1", before)
			before = far.count()
			r.pullImage("v2", fresh)
			line("down: a new image", fresh, "v2", before)
			before = far.count()
			r.pullImage("v2", fresh)
			line("down: the same again", fresh, "v2", before)

			before = far.count()
			far.start()
			begun := time.Now()
			r.wantOneSet(fresh, "v2")
			line(fmt.Sprintf("back: its copy, after %.1f s", time.Since(begun).Seconds()), fresh, "v2", before)

			late := r.add(freeAddress(t), freeAddress(t))
			late.Segments, late.Hook, late.Owner, late.Far = 1, r.hook.URL(), true, far.farConfig
			r.know(r.addresses()...)
			r.start(late)
			before = far.count()
			r.pullImage("v2", fresh, 3)
			r.settle()
			line("a replica with an empty disk", fresh, "v2", before)
			before = far.count()
			r.pullImage("v2", fresh, 3)
			line("the same again", fresh, "v2", before)
			for tag, img := range map[string]upstreamtest.Image{"v1": old, "v2": fresh} {
				if got := r.sent(img); got != 1 {
					t.Errorf("the upstream sent %.3f times the layer of %s", got, tag)
				}
				r.wantOneSet(img, tag)
			}
		})
	}
}

// TestFleetCopyOwner ends the replica that copies an image for all. The others see to it that
// the image is copied and told of nevertheless, once.
func TestFleetCopyOwner(t *testing.T) {
	b := newTable(t, "the replica that copies", "finished after", "upstream sent", "GETs", "events", "object store")
	lost := func(r *imageRig, owner *fleetReplica) {
		owner.kill()
		if err := os.RemoveAll(owner.Dir); err != nil {
			r.t.Error(err)
		}
	}
	restarted := func(r *imageRig, owner *fleetReplica) {
		owner.kill()
		time.Sleep(300 * time.Millisecond)
		r.start(owner)
	}
	size, rate := fleetScale()
	for _, c := range []struct {
		name  string
		fills bool // it fetches the layer too, which no other replica then has
		at    func(r *imageRig, owner *fleetReplica)
		sets  int // of events, at most
		most  float64
	}{
		{"goes on", false, func(*imageRig, *fleetReplica) {}, 1, 1},
		{"is killed, and its disk is lost", false, lost, 1, 1},
		{"is killed, its disk is lost, and the layer with it", true, lost, 1, 1.5},
		// Both the one that is back and the one that took over may end the copy at once.
		{"is killed, and restarted after 0.3 s", false, restarted, 2, 1},
		// What came after the last checkpoint is fetched again: half a MiB as a rule, and up to
		// 8 MiB on a machine that has much else to do.
		{"is killed with half of the layer, and restarted", true, restarted, 2, once + 8<<20/float64(size)},
	} {
		t.Run(c.name, func(t *testing.T) {
			far := newFarStore(t, "versitygw")
			r := newImageRig(t, far, true)
			img := r.addImage("v1", size)
			for (r.owner(img) == r.rank(img.Layers[0].Digest, r.addresses())[0]) != c.fills {
				img = r.addImage("v1", size)
			}
			layer := img.Layers[0].Digest
			r.up.Pace(rate)
			part := int64(size) * 4 / 10
			r.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: layer.String(), Stall: part, Times: 1}) // until it has happened
			r.start(r.replicas...)
			before := far.count()
			for i := range r.replicas {
				if m := r.pull(i, "manifests/v1"); !m.good(img.Digest) {
					t.Errorf("the manifest: %v", m)
				}
			}
			begun := time.Now()
			r.until("40 % are copied", func() bool { return r.up.BlobBytes(layer) >= part })
			c.at(r, r.replicas[r.owner(img)])
			r.up.Release()
			r.until("the events are told", func() bool { return r.told(img, "v1") > 0 && r.told(img, "") > 0 })
			took := time.Since(begun)
			r.settle()
			r.quiet()
			b.add(c.name, fmt.Sprintf("%.1f s", took.Seconds()), fmt.Sprintf("%.3f x", r.sent(img)), fmt.Sprint(r.up.Count("GET", "blob", layer.String())),
				r.events(img, "v1"), far.since(before).of(size))
			if got := max(r.told(img, "v1"), r.told(img, "")); got > c.sets {
				t.Errorf("events: %s", r.events(img, "v1"))
			}
			if got := r.sent(img); got > c.most {
				t.Errorf("the upstream sent %.3f times the layer", got)
			}
		})
	}
}

// owner is the replica that copies an image for all.
func (r *imageRig) owner(img upstreamtest.Image) int { return r.rank(img.Digest, r.addresses())[0] }

// TestFleetIndex pulls one platform of an index by its tag, from all replicas at once. There
// is one event for the index with its tag, one without, and one for the platform.
func TestFleetIndex(t *testing.T) {
	r := newImageRig(t, newFarStore(t, "versitygw"), true)
	img := r.up.AddMultiPlatform("team/app", "v1", [][]byte{upstreamtest.Bytes(uint64(time.Now().UnixNano()), 4<<20), upstreamtest.Bytes(1, 1<<20)}, "amd64", "arm64")
	child := img.Children[0]
	r.start(r.replicas...)
	p := &pulls{r: r.fleetRig}
	for i := range 6 {
		p.wg.Go(func() {
			good := r.pull(i%3, "manifests/v1").good(img.Digest) && r.pull(i%3, "manifests/"+child.Digest.String()).good(child.Digest)
			for _, blob := range append(slices.Clone(child.Layers), child.Config) {
				good = r.pull(i%3, "blobs/"+blob.Digest.String()).good(blob.Digest) && good
			}
			if !good {
				t.Errorf("a client of replica %d did not get the platform", i%3)
			}
		})
	}
	p.wait()
	begun := time.Now()
	r.until("the events are told", func() bool { return r.told(img, "v1") > 0 && r.told(img, "") > 0 && r.told(child, "") > 0 })
	took := time.Since(begun)
	time.Sleep(time.Second) // for events that must not come
	var size int64
	for _, blob := range append(slices.Clone(child.Layers), child.Config) {
		size += blob.Size
	}
	b := newTable(t, "index of two platforms", "told after", "upstream sent", "events")
	b.add("one is pulled", fmt.Sprintf("%.1f s", took.Seconds()), fmt.Sprintf("%.3f x", float64(r.up.BlobBytes(""))/float64(size)), fmt.Sprint(len(r.hook.IDs())))
	if got := len(r.hook.IDs()); got != 3 {
		t.Errorf("%d events, want 3: %v", got, r.hook.Events())
	}
	if got := r.up.BlobBytes(""); got != size {
		t.Errorf("the upstream sent %d bytes of blobs, want %d", got, size)
	}
}
