package fleet_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// want has clients pull a blob from random replicas.
func (w *world) want(b *simBlob, chance *rand.Rand) {
	time.Sleep(time.Duration(chance.Int64N(int64(simTime))))
	w.mu.Lock()
	b.first = time.Now()
	w.mu.Unlock()
	var clients sync.WaitGroup
	for range simClients {
		time.Sleep(time.Duration(chance.Int64N(int64(200 * time.Millisecond))))
		r := w.pick(chance)
		w.mu.Lock()
		b.holders[r.machine] = true
		r.clients.Add(1)
		w.mu.Unlock()
		clients.Go(func() {
			defer r.clients.Done()
			w.pull(r, b)
		})
	}
	clients.Wait()
	w.mu.Lock()
	b.last = time.Now()
	w.mu.Unlock()
}

// pull is one client. A replica that is frozen does not reach the upstream either.
func (w *world) pull(r *simReplica, b *simBlob) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	transport := w.net.transport("client")
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var got []byte
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.machine+":80/v2/mirror/app/blobs/"+b.digest.String(), nil)
	if err == nil {
		var resp *http.Response
		for range 10 { // a machine that is frozen is not reached
			if resp, err = client.Do(req); err == nil {
				break
			}
			time.Sleep(time.Second)
		}
		if err == nil {
			got, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil && resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %d: %s", resp.StatusCode, got)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil && !bytes.Equal(got, b.body):
		w.t.Errorf("%s: %d wrong bytes", r.machine, len(got))
	case err != nil && !r.dead && !r.thaws.After(began):
		w.t.Errorf("%s: %d bytes of %d: %v", r.machine, len(got), len(b.body), err)
		w.log.tell(w.t, b.digest)
	}
}

// check looks at a replica that sends something: one that sends a blob to others as it gets
// it from another one does not get it from itself in the end.
func (w *world) check(machine string) {
	for _, b := range w.replica(machine).blobs() {
		var way []string
		for next := b; next.Served > 0 && next.From != "" && len(way) <= len(w.all); {
			way = append(way, next.From)
			from, _, _ := strings.Cut(next.From, ":")
			if from == machine {
				w.t.Errorf("%s gets a blob from itself, by way of %v", machine, way)
				break
			}
			next = w.replica(from).blob(b.Digest)
		}
	}
}

func (w *world) replica(machine string) *simReplica {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[machine]
}

// blobs are the blobs under way of a replica, which may be nil.
func (r *simReplica) blobs() []fleet.Blob {
	if r == nil {
		return nil
	}
	return r.Blobs()
}

// blob is one of them.
func (r *simReplica) blob(d digest.Digest) fleet.Blob {
	for _, b := range r.blobs() {
		if b.Digest == d {
			return b
		}
	}
	return fleet.Blob{}
}

// end ends all replicas.
func (w *world) end() {
	w.mu.Lock()
	all := slices.Collect(maps.Values(w.all))
	w.mu.Unlock()
	for _, r := range all {
		if !r.leaving {
			w.stop(r)
		}
	}
}

// judge compares what the upstream sent with what was needed: each blob once, once more
// each time no replica was left that a client had asked for it, and once for each further
// part of the fleet while the blob was under way.
func (w *world) judge() {
	var sent, needed int64
	for _, b := range w.blobs {
		times := int64(b.lost + w.parts(b))
		n := w.up.BlobBytes(b.digest)
		sent, needed = sent+n, needed+times*int64(len(b.body))
		if n > times*int64(len(b.body))*11/10 {
			w.t.Logf("the upstream sent %d bytes of a blob of %d, which was needed %d times", n, len(b.body), times)
			w.log.tell(w.t, b.digest)
		}
	}
	w.t.Logf("the upstream sent %.3f times of what was needed", float64(sent)/float64(needed))
	if sent > needed*11/10 {
		w.t.Errorf("the upstream sent %d bytes, and %d were needed", sent, needed)
	}
	for _, c := range w.up.Complaints() {
		w.t.Error(c)
	}
}

// parts is of how many parts that did not reach one another the fleet consisted while a blob
// was under way: a frozen replica is one more, a cut in two is one more, and two cuts at
// once make four parts. A cut counts for up to twice as long as it lasts, since the pauses
// between pings to one that does not answer double.
func (w *world) parts(b *simBlob) int {
	parts := 1
	var splits []simCut
	for _, c := range w.cuts {
		if !b.first.Before(c.to.Add(c.to.Sub(c.from)+2*time.Second)) || !c.from.Before(b.last) {
			continue
		}
		if parts++; !c.splits {
			continue
		}
		for _, other := range splits {
			if c.from.Before(other.to) && other.from.Before(c.to) {
				parts++
			}
		}
		splits = append(splits, c)
	}
	return parts
}

// simLog is what replicas log. It is shown if PULLTHROUGH_FLEET_LOG is set.
type simLog struct {
	mu    sync.Mutex
	lines [][]byte
}

func (l *simLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, bytes.Clone(line))
	return len(line), nil
}

// tell shows the lines about a blob, and those about none.
func (l *simLog) tell(t *testing.T, d digest.Digest) {
	if os.Getenv("PULLTHROUGH_FLEET_LOG") == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if bytes.Contains(line, []byte(d)) || !bytes.Contains(line, []byte("digest=")) {
			t.Logf("%s", bytes.TrimSpace(line))
		}
	}
}

// The upstream of the replica that fetches falls silent in the middle of a blob. The others
// wait until that one has gone on: with a second connection after 5 s, or, if that is
// earlier, after its idle timeout.
func TestFollowersWaitForASilentUpstream(t *testing.T) {
	const size = 600 << 10
	for idle, silent := range map[time.Duration]time.Duration{3 * time.Second: 3 * time.Second, 30 * time.Second: 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, net: newSimnet(), up: upstreamtest.NewHandler(), all: map[string]*simReplica{}}
			server, listener := &http.Server{Handler: w.up}, w.net.listen(simSource+":443")
			w.wg.Go(func() { _ = server.Serve(listener) })
			b := &simBlob{body: upstreamtest.Bytes(1, size)}
			b.digest = w.up.AddBlob("team/app", b.body)
			w.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Stall: 200 << 10, Times: 1})
			for i := range 3 {
				w.join(fmt.Sprintf("r%d", i))
			}
			w.learn()
			began := time.Now()
			var clients sync.WaitGroup
			for _, r := range w.all {
				r.cache.Limits.IdleTimeout = idle
				clients.Go(func() { w.pull(r, b) })
				clients.Go(func() { w.pull(r, b) })
			}
			clients.Wait()
			if took := time.Since(began); took < silent || took > silent+2*time.Second {
				t.Errorf("it took %v, and the upstream was silent for %v", took, silent)
			}
			var sum fleet.Stats
			for _, r := range w.all {
				s := r.Fleet.Stats()
				sum.Filled, sum.Failures, sum.BytesReceived = sum.Filled+s.Filled, sum.Failures+s.Failures, sum.BytesReceived+s.BytesReceived
			}
			if n := w.up.BlobBytes(b.digest); n != size || sum != (fleet.Stats{Filled: 2, BytesReceived: 2 * size}) {
				t.Errorf("idle timeout %v: the upstream sent %d bytes of %d; %+v", idle, n, size, sum)
			}
			w.end()
			_ = server.Close()
			w.wg.Wait()
		})
	}
}
