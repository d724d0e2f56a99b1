package fleet_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// virtually runs a story of replicas in virtual time, in which none answers late because the
// machine is busy. It gives the story a blob, and the replicas in the order of their ranks for it.
func virtually(t *testing.T, n int, body []byte, story func(w *world, b *simBlob, all []*simReplica)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: newSimnet(), up: upstreamtest.NewHandler(), all: map[string]*simReplica{}}
		server, listener := &http.Server{Handler: w.up}, w.net.listen(simSource+":443")
		w.wg.Go(func() { _ = server.Serve(listener) })
		b := &simBlob{body: body, digest: w.up.AddBlob("team/app", body)}
		for i := range n {
			w.join(fmt.Sprintf("r%d", i))
		}
		var all []*simReplica
		for _, address := range fleet.Rank(w.members, stageSource, b.digest) {
			r := w.all[machineOf(address)]
			r.list, r.cache.Limits = w.members, cache.Limits{IdleTimeout: 3 * time.Second, Segments: 1}
			all = append(all, r)
		}
		story(w, b, all)
		w.end()
		_ = server.Close()
		w.wg.Wait()
		for _, c := range w.up.Complaints() {
			t.Error(c)
		}
	})
}

// Of three replicas, two do not reach one another. The third one sends on what it gets, also
// if no client of its own wants it, so that the upstream is asked once.
func TestTheThirdSendsOn(t *testing.T) {
	const size = 600 << 10
	for name, c := range map[string]struct {
		apart [2]int // by rank
		first int    // the replica that is asked first
		then  []int
	}{
		"the third has clients":             {[2]int{0, 1}, 0, []int{2, 1}},
		"the third has none":                {[2]int{0, 1}, 0, []int{1}},
		"the last one, and the third has":   {[2]int{0, 2}, 0, []int{1, 2}},
		"the last one, and the third none":  {[2]int{0, 2}, 0, []int{2}},
		"the first is asked last":           {[2]int{0, 2}, 2, []int{0}},
		"followers do not need one another": {[2]int{1, 2}, 0, []int{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, 3, upstreamtest.Bytes(40, size), func(w *world, b *simBlob, all []*simReplica) {
				w.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Stall: 200 << 10, Times: 1})
				w.net.change(func() { w.net.cut[pairOf(all[c.apart[0]].machine, all[c.apart[1]].machine)]++ })
				var clients sync.WaitGroup
				want := func(i int) { clients.Go(func() { w.pull(all[i], b) }) }
				want(c.first)
				until(t, func() bool { return w.up.BlobBytes(b.digest) >= 200<<10 })
				for _, i := range c.then {
					want(i)
					until(t, func() bool { return all[i].blob(b.digest).From != "" })
				}
				w.up.Release()
				clients.Wait()
				if n := w.up.BlobBytes(b.digest); n != size {
					t.Errorf("the upstream sent %d bytes of %d", n, size)
				}
			})
		})
	}
}

// A replica whose upstream cuts a download and then refuses it once goes on with it: others wait
// for what is still to come.
func TestRefusedInTheMiddle(t *testing.T) {
	const size = 600 << 10
	virtually(t, 2, upstreamtest.Bytes(42, size), func(w *world, b *simBlob, all []*simReplica) {
		w.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Cut: size / 2, Times: 1})
		w.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Status: 503, Times: 1})
		var clients sync.WaitGroup
		for i, r := range all {
			if i == 1 {
				until(t, func() bool { return w.up.Count("GET", "blob", b.digest.String()) >= 2 })
			}
			clients.Go(func() { w.pull(r, b) })
		}
		clients.Wait()
		if n := w.up.BlobBytes(b.digest); n > size+size/4 {
			t.Errorf("the upstream sent %d bytes of %d", n, size)
		}
	})
}
