package fleet_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

const secret = "a-secret-of-some-length-in-bytes"

// replica is one cache of a fleet, with real servers on loopback.
type replica struct {
	*cache.Cache
	*fleet.Fleet
	rules   *rule.Set
	peers   *http.Server // for the others
	address string
	clients *httptest.Server

	serverTLS *tls.Config // of peers; if nil, they are served without TLS
}

// fleetOf starts replicas that know one another. edit may change each before it is used.
func fleetOf(t *testing.T, up *upstreamtest.Registry, n int, edit func(i int, r *replica)) []*replica {
	t.Helper()
	var all []*replica
	var listeners []net.Listener
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners, addresses = append(listeners, l), append(addresses, l.Addr().String())
	}
	for i := range n {
		r := &replica{address: addresses[i]}
		var err error
		r.rules, err = rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/team/*", Target: "mirror/*"})
		if err != nil {
			t.Fatal(err)
		}
		r.Fleet = &fleet.Fleet{Self: addresses[i], Peers: fleet.Static(addresses...), Secret: []byte(secret), Insecure: true}
		r.Cache = &cache.Cache{ID: "fleet.example.com", Rules: r.rules, Store: &store.Mem{}}
		r.Cache.Limits.Segments = 1 // or an upstream that is silent for a while is asked once more
		if edit != nil {
			edit(i, r)
		}
		if r.Cache.Upstream == nil {
			r.Cache.Upstream = r.Fleet.Opener(up.Client())
		}
		r.peers = r.Fleet.Server(r.Cache)
		if listener := listeners[i]; r.serverTLS != nil {
			r.peers.TLSConfig = r.serverTLS
			go func() { _ = r.peers.ServeTLS(listener, "", "") }()
		} else {
			go func() { _ = r.peers.Serve(listener) }()
		}
		r.clients = httptest.NewServer(r.Cache)
		t.Cleanup(func() {
			r.clients.CloseClientConnections()
			r.clients.Close()
			_ = r.peers.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := r.Cache.Shutdown(ctx); err != nil {
				t.Errorf("replica %d does not end: %v", i, err)
			}
			r.Fleet.Close() // or it goes on to tell the others, in the next test
		})
		all = append(all, r)
	}
	return all
}

// pull gets a blob from a replica as a client does, and returns what came before the end,
// which is an error if it is not a clean one.
func (r *replica) pull(ctx context.Context, repository string, d digest.Digest) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.clients.URL+"/v2/"+repository+"/blobs/"+d.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := r.clients.Client().Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return body, resp.Header, err
}

// pullAll pulls a blob at each replica at once.
func pullAll(t *testing.T, all []*replica, each int, d digest.Digest, want []byte) {
	t.Helper()
	var wg sync.WaitGroup
	for i, r := range all {
		for range each {
			wg.Go(func() {
				got, _, err := r.pull(t.Context(), "mirror/app", d)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("replica %d: %d bytes of %d, %v", i, len(got), len(want), err)
				}
			})
		}
	}
	wg.Wait()
}

// One replica fetches a blob, whatever the number of replicas and clients.
func TestOneFetchForAll(t *testing.T) {
	for _, size := range []int{100, 64 << 10, 3 << 20} {
		up := upstreamtest.NewRegistry(t)
		body := upstreamtest.Layer(1, size)
		d := up.AddBlob("team/app", body)
		up.PaceEach(8 << 20)
		all := fleetOf(t, up, 4, nil)
		pullAll(t, all, 2, d, body)
		var filled, followed, received, failures int64
		for _, r := range all {
			s := r.Fleet.Stats()
			filled, followed, received, failures = filled+s.Filled, followed+s.Followed, received+s.BytesReceived, failures+s.Failures
			if c := r.Cache.Stats(); failures == 0 && c.BytesFetched+s.BytesReceived != int64(len(body)) || c.BlobConnections != s.Filled {
				t.Errorf("%d bytes were fetched and %d came from replicas, over %d connections", c.BytesFetched, s.BytesReceived, c.BlobConnections)
			}
		}
		nothingLeft(t, all)
		if someSeemedDead(t, all) {
			continue
		}
		if n := up.BlobBytes(d); filled != 1 || followed < 3 || received != 3*int64(len(body)) || n != int64(len(body)) {
			t.Errorf("%d bytes: %d connections to the upstream, which sent %d, and %d to replicas, which sent %d", len(body), filled, n, followed, received)
		}
	}
}

// What one replica has, the others get from it.
func TestStoredElsewhere(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	body := upstreamtest.Layer(2, 1<<20)
	d := up.AddBlob("team/app", body)
	all := fleetOf(t, up, 3, nil)
	sent := map[string]int{}
	for i, r := range all {
		got, header, err := r.pull(t.Context(), "mirror/app", d)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("replica %d: %d bytes, %v", i, len(got), err)
		}
		sent[header.Get("Cache-Status")]++
	}
	// The one that fetched it has it, whichever client's pull made it do so.
	peer, n := sent["pullthrough; fwd=miss; stored; detail=peer"], up.BlobBytes(d)
	if len(sent) > 2 || (peer < 2 || n != int64(len(body))) && !someSeemedDead(t, all) {
		t.Errorf("where the blob came from: %v; the upstream sent %d bytes of %d", sent, n, len(body))
	}
}
