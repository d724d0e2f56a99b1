package fleet_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// A replica that accepts connections and answers nothing holds nobody up for long, and costs
// no further fetch.
func TestSilentReplica(t *testing.T) {
	const size = 1 << 20
	up := upstreamtest.NewRegistry(t)
	body := upstreamtest.Bytes(9, size)
	d := up.AddBlob("team/app", body)
	all, lines := spoiledFleet(t, up, 3, d, nil)
	for _, l := range lines {
		l.set(func() { l.block[all[0].address] = true })
	}
	pullAll(t, all[1:], 2, d, body)
	var failures int64
	for _, r := range all {
		failures += r.Fleet.Stats().Failures
	}
	if n := up.BlobBytes(d); n < size || n > 2*size || failures == 0 {
		t.Errorf("the upstream sent %d bytes of %d, after %d failures", n, size, failures)
	}
	nothingLeft(t, all)
}

// Replicas that reach no other one fetch for themselves.
func TestPartition(t *testing.T) {
	const size = 200 << 10
	up := upstreamtest.NewRegistry(t)
	body := upstreamtest.Bytes(10, size)
	d := up.AddBlob("team/app", body)
	all, lines := spoiledFleet(t, up, 3, d, nil)
	for _, l := range lines {
		l.set(func() {
			for _, r := range all {
				l.block[r.address] = true
			}
		})
	}
	pullAll(t, all, 2, d, body)
	if n := up.BlobBytes(d); n != 3*size {
		t.Errorf("the upstream sent %d bytes of %d", n, size)
	}
	nothingLeft(t, all)
}

// What the upstream says to the replica that fetches, each client hears, and no client hears
// what is the matter between replicas.
func TestTroubleWithTheUpstream(t *testing.T) {
	const size = 400 << 10
	for name, c := range map[string]struct {
		fault  upstreamtest.Fault
		ok     bool // for all clients; else for none
		status string
		most   int64 // bytes
		gets   int
	}{
		"it cuts":           {upstreamtest.Fault{Cut: size / 2, Times: 1}, true, "", size + size/2, 4},
		"it is cut early":   {upstreamtest.Fault{Cut: 1, Times: 1}, true, "", 2 * size, 4},
		"it has none":       {upstreamtest.Fault{Status: 404}, false, "status 404", 0, 9},
		"it denies":         {upstreamtest.Fault{Status: 403}, false, "status 403", 0, 9},
		"it sends a bit":    {upstreamtest.Fault{Flip: true, FlipAt: 1000}, false, "", 4 * size, 9},
		"it ignores ranges": {upstreamtest.Fault{IgnoreRange: true}, true, "", size, 1},
		"it says no length": {upstreamtest.Fault{NoLength: true}, true, "", size, 1},
	} {
		t.Run(name, func(t *testing.T) {
			up := upstreamtest.NewRegistry(t)
			body := upstreamtest.Bytes(11, size)
			d := up.AddBlob("team/app", body)
			up.PaceEach(4 << 20)
			c.fault.Method, c.fault.Kind = "GET", "blob"
			up.Fail(c.fault)
			all, _ := spoiledFleet(t, up, 3, d, nil)
			if c.ok {
				pullAll(t, all, 2, d, body)
			} else {
				var wg sync.WaitGroup
				for _, r := range all {
					wg.Go(func() {
						got, _, err := r.pull(t.Context(), "mirror/app", d)
						if err == nil || !strings.Contains(err.Error(), c.status) {
							t.Errorf("%d bytes, %v", len(got), err)
						}
					})
				}
				wg.Wait()
			}
			if n, gets := up.BlobBytes(d), up.Count("GET", "blob", d.String()); (n > c.most || gets > c.gets) && !(c.ok && someSeemedDead(t, all)) {
				t.Errorf("the upstream sent %d bytes of %d, and was asked %d times", n, size, gets)
			}
			nothingLeft(t, all)
		})
	}
}

// Clients of other replicas get a blob though the one that is to fetch it gets 429: each
// replica hears it for itself, and one of them is let through.
func TestLimitedReplica(t *testing.T) {
	const size = 300 << 10
	up := upstreamtest.NewRegistry(t)
	body := upstreamtest.Bytes(12, size)
	d := up.AddBlob("team/app", body)
	up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Status: 429, RetryAfter: "60", Times: 1})
	all, _ := spoiledFleet(t, up, 3, d, nil)
	if _, _, err := all[0].pull(t.Context(), "mirror/app", d); err == nil {
		t.Error("the first one is let through")
	}
	pullAll(t, all[1:], 2, d, body)
	if n := up.BlobBytes(d); n != size && !someSeemedDead(t, all) {
		t.Errorf("the upstream sent %d bytes of %d", n, size)
	}
	nothingLeft(t, all)
}

// A replica with other rules has nothing for the others, and they nothing for it.
func TestRulesThatDiffer(t *testing.T) {
	const size = 200 << 10
	up := upstreamtest.NewRegistry(t)
	body := upstreamtest.Bytes(13, size)
	d := up.AddBlob("team/app", body)
	up.AddBlob("other/app", body)
	all := fleetOf(t, up, 3, func(i int, r *replica) {
		if i == 2 {
			var err error
			r.rules, err = rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/other/*", Target: "mirror/*"})
			if err != nil {
				t.Error(err)
			}
			r.Cache.Rules = r.rules
		}
	})
	pullAll(t, all, 2, d, body)
	if n := up.BlobBytes(d); n != 2*size && !someSeemedDead(t, all) {
		t.Errorf("the upstream sent %d bytes of %d for two repositories", n, size)
	}
	s := all[2].Fleet.Stats()
	if s.BytesReceived != 0 || s.Filled != 1 {
		t.Errorf("%+v", s)
	}
	for _, method := range []string{"HEAD", "GET"} {
		path := "/fleet/v1/mirror/app/blobs/" + digestOf([]byte(method)).String()
		if resp, _ := all[2].asPeer(t, method, path, "Pullthrough-Source", "team "+up.Host()+"/team/app", "Pullthrough-Without", all[0].address); resp.StatusCode != 404 || all[2].Fleet.Stats().Questions != s.Questions {
			t.Errorf("%s: %s, and others were asked", method, resp.Status)
		}
	}
	nothingLeft(t, all)
}

// A replica that leaves begins nothing for the others; what it sends goes on, and what it
// has is had.
func TestLeave(t *testing.T) {
	const size = 300 << 10
	up := upstreamtest.NewRegistry(t)
	stored := upstreamtest.Bytes(14, size)
	running := upstreamtest.Bytes(15, size)
	fresh := upstreamtest.Bytes(16, size)
	for _, b := range [][]byte{stored, running, fresh} {
		up.AddBlob("team/app", b)
	}
	r := fleetOf(t, up, 1, nil)[0]
	path := func(b []byte) string { return "/fleet/v1/mirror/app/blobs/" + digestOf(b).String() }
	if resp, _ := r.asPeer(t, "GET", path(stored)); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Stall: 100 << 10, Times: 1})
	done := make(chan string)
	go func() {
		resp, body := r.asPeer(t, "GET", path(running))
		done <- resp.Status + resp.Header.Get("Pullthrough-Front") + body
	}()
	until(t, func() bool { b := r.Blobs(); return len(b) > 0 && b[0].Upstream > 0 && b[0].Served > 0 })
	r.Leave()
	for _, c := range []struct {
		method string
		blob   []byte
		status int
	}{{"GET", fresh, 503}, {"HEAD", fresh, 404}, {"GET", stored, 200}, {"HEAD", stored, 200}, {"HEAD", running, 200}} {
		if resp, _ := r.asPeer(t, c.method, path(c.blob)); resp.StatusCode != c.status {
			t.Errorf("%s is answered %d, want %d", c.method, resp.StatusCode, c.status)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := r.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drain while another replica is sent a blob: %v", err)
	}
	up.Release()
	if got := <-done; got != "200 OK0"+string(running) {
		t.Errorf("what was under way: %.100q", got)
	}
	if err := r.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if s := r.Fleet.Stats(); s.Refused != 1 {
		t.Errorf("%+v", s)
	}
	if n := up.Count("GET", "blob", digestOf(fresh).String()); n != 0 {
		t.Errorf("%d requests for what was refused", n)
	}
}

// A replica without a free slot says so at once, and to HEAD that it does not bring the blob.
func TestNoRoom(t *testing.T) {
	const size = 300 << 10
	up := upstreamtest.NewRegistry(t)
	first, second := upstreamtest.Bytes(17, size), upstreamtest.Bytes(18, size)
	up.AddBlob("team/app", first)
	up.AddBlob("team/app", second)
	r := fleetOf(t, up, 1, func(_ int, r *replica) {
		r.Cache.Limits = cache.Limits{Downloads: 1, DownloadsPerHost: 1, SlotTimeout: time.Minute}
	})[0]
	up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Stall: 100 << 10, Times: 1})
	done := make(chan error)
	go func() {
		_, _, err := r.pull(t.Context(), "mirror/app", digestOf(first))
		done <- err
	}()
	until(t, func() bool { return up.Count("GET", "blob", "") > 0 })
	path, began := "/fleet/v1/mirror/app/blobs/"+digestOf(second).String(), time.Now()
	if resp, _ := r.asPeer(t, "GET", path); resp.StatusCode != http.StatusServiceUnavailable || time.Since(began) > 30*time.Second {
		t.Errorf("without a slot: %d after %v", resp.StatusCode, time.Since(began))
	}
	if resp, _ := r.asPeer(t, "HEAD", path); resp.StatusCode != http.StatusNotFound {
		t.Errorf("without a slot: HEAD is answered %d", resp.StatusCode)
	}
	up.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	pullAll(t, []*replica{r}, 1, digestOf(second), second)
	nothingLeft(t, []*replica{r})
}

// A replica that is added, and whose first rank a blob gives it, finds it where it is on its
// way: for its own clients, and for those of replicas that know it already.
func TestNewcomerFindsWhatIsUnderWay(t *testing.T) {
	const size = 300 << 10
	for _, own := range []bool{true, false} {
		virtually(t, 4, upstreamtest.Bytes(19, size), func(w *world, b *simBlob, all []*simReplica) {
			newcomer, filler, other := all[0], all[1], all[2]
			know := func(members []string, replicas ...*simReplica) {
				w.mu.Lock()
				defer w.mu.Unlock()
				for _, r := range replicas {
					r.list = members
				}
			}
			know([]string{all[1].Self, all[2].Self, all[3].Self}, all[1:]...)
			w.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Stall: 100 << 10, Times: 1})
			var clients sync.WaitGroup
			want := func(r *simReplica) { clients.Go(func() { w.pull(r, b) }) }
			want(filler)
			until(t, func() bool { return w.up.BlobBytes(b.digest) >= 100<<10 })
			know(w.members, other) // the newcomer too, by now
			late := other
			if own {
				late = newcomer
			}
			want(late)
			until(t, func() bool { return late.blob(b.digest).From == filler.Self })
			w.up.Release()
			clients.Wait()
			if n := w.up.BlobBytes(b.digest); n != size {
				t.Errorf("own clients: %v: the upstream sent %d bytes of %d", own, n, size)
			}
		})
	}
}

// A replica that is spelled in another way in the lists asks itself, and comes to no harm.
func TestOwnNameIsMisspelled(t *testing.T) {
	const size = 300 << 10
	up := upstreamtest.NewRegistry(t)
	all := fleetOf(t, up, 2, func(_ int, r *replica) {
		r.Fleet.Self = strings.Replace(r.address, "127.0.0.1", "localhost", 1)
	})
	for i := range uint64(8) { // of various ranks
		body := upstreamtest.Bytes(20+i, size)
		d := up.AddBlob("team/app", body)
		pullAll(t, all, 2, d, body)
		if n := up.BlobBytes(d); n > 2*size {
			t.Errorf("the upstream sent %d bytes of %d", n, size)
		}
	}
	nothingLeft(t, all)
	for _, r := range all {
		members := r.Members(t.Context())
		if len(members) < 3 || len(members) > 4 || !slices.ContainsFunc(members, func(m fleet.Member) bool { return m.Self }) {
			t.Errorf("%+v", members)
		}
	}
}

// slowStore is a store that takes its time to commit a blob.
type slowStore struct {
	*store.Mem
	commit chan struct{} // closed when it may
}

// Spool implements [store.Spooler].
func (s slowStore) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
	spool, err := s.Mem.Spool(ctx, repo, want)
	return slowSpool{spool, s.commit}, err
}

type slowSpool struct {
	store.Spool
	commit chan struct{}
}

func (s slowSpool) Commit(ctx context.Context, info store.Info) error {
	select {
	case <-s.commit:
		return s.Spool.Commit(ctx, info)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// What a replica has got and not stored yet, since its store is slow, others get from it.
func TestWhatIsNotStoredYetIsFound(t *testing.T) {
	const size = 300 << 10
	virtually(t, 3, upstreamtest.Bytes(30, size), func(w *world, b *simBlob, all []*simReplica) {
		commit := make(chan struct{})
		for _, r := range all {
			r.cache.Store = slowStore{&store.Mem{}, commit}
		}
		alone := all[2]
		for _, r := range all[:2] {
			r.Leave() // it begins nothing for the last one
		}
		w.pull(alone, b)
		for _, method := range []string{"HEAD", "GET"} { // it is as good as stored
			if status, front := w.answer(method, all[0], alone, b); status != 200 || front != "" {
				t.Errorf("%s: %d, front %q", method, status, front)
			}
		}
		var clients sync.WaitGroup
		for _, r := range append(all[:2:2], all[:2]...) {
			clients.Go(func() { w.pull(r, b) })
		}
		clients.Wait()
		if n := w.up.BlobBytes(b.digest); n != size {
			t.Errorf("the upstream sent %d bytes of %d", n, size)
		}
		close(commit)
	})
}

// answer is what a replica answers another one that asks for a blob.
func (w *world) answer(method string, from, to *simReplica, b *simBlob) (status int, front string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+to.Self+"/fleet/v1/mirror/app/blobs/"+b.digest.String(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range map[string]string{"Authorization": "Bearer " + secret, "Pullthrough-Peer": from.Self, "Pullthrough-Source": "team " + stageSource.String(), "Cdn-Loop": "fleet.example.com"} {
		req.Header.Set(k, v)
	}
	transport := w.net.transport("client")
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		w.t.Error(err)
	}
	return resp.StatusCode, resp.Header.Get("Pullthrough-Front")
}

// until waits until something is so.
func until(t *testing.T, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("waited in vain")
			return
		}
	}
}
