package fleet_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// quiet is a fleet in virtual time, whose replicas have outboxes with one receiver, share a
// store, and talk without a network.
type quiet struct {
	*testing.T
	up    *upstreamtest.Registry
	hook  *webhooktest.Recorder
	rules *rule.Set
	far   *store.Mem
	tags  sync.Mutex

	mu  sync.Mutex
	all map[string]*quietReplica // those that live, by address
}

type quietReplica struct {
	*cache.Cache
	fleet   *fleet.Fleet
	handler http.Handler
	outbox  *webhook.Outbox
	records *store.Mem
}

func (q *quiet) at(address string) *quietReplica {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.all[address]
}

// RoundTrip hands a request to the replica that it is for.
func (q *quiet) RoundTrip(r *http.Request) (*http.Response, error) {
	to := q.at(r.URL.Host)
	if to == nil {
		return nil, errors.New("connection refused")
	}
	w := httptest.NewRecorder()
	to.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

var quietAddresses = []string{"a:1", "b:1", "c:1"}

// start starts a replica with records of its own.
func (q *quiet) start(address string, records *store.Mem) {
	q.Helper()
	r := &quietReplica{records: records, fleet: &fleet.Fleet{
		Self: address, Peers: fleet.Static(quietAddresses...), Secret: []byte(secret), Insecure: true, Transport: q,
	}}
	to := &webhook.HTTP{URL: "http://scanner.example.com/hook", Transport: q.hook.Transport()}
	r.outbox = &webhook.Outbox{Records: records, Receivers: []webhook.Receiver{{Name: "scanner", Sink: to}}}
	r.Cache = &cache.Cache{
		ID: "x", Rules: q.rules, Store: farStore{q.far, records, &q.tags}, SpoolDir: q.TempDir(),
		Upstream: r.fleet.Opener(&upstream.Client{Transport: q.up.Transport()}), Deleted: r.fleet.Deleted, Events: r.outbox,
	}
	r.Copier = r.fleet.Copier(r.Cache)
	r.handler = r.fleet.Handler(r.Cache)
	if err := errors.Join(r.outbox.Start(q.Context()), r.Start(q.Context())); err != nil {
		q.Fatal(err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all[address] = r
}

// kill ends a replica, and returns its records.
func (q *quiet) kill(address string) *store.Mem {
	q.Helper()
	r := q.at(address)
	q.mu.Lock()
	delete(q.all, address)
	q.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.outbox.Shutdown(ctx)
	if err := r.Shutdown(context.Background()); err != nil {
		q.Error(err)
	}
	return r.records
}

func (q *quiet) pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

// quietly runs a story of replicas that have copied an image, with its events in the outbox
// of one of them, which it gives to the story; the others are witnesses.
func quietly(t *testing.T, story func(q *quiet, owner string, img upstreamtest.Image)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q := &quiet{T: t, up: upstreamtest.NewHandler(), hook: webhooktest.NewHandler(), far: &store.Mem{}, all: map[string]*quietReplica{}}
		var err error
		if q.rules, err = rule.NewSet(rule.Rule{Name: "team", Source: simSource + "/team/*", Target: "mirror/*"}); err != nil {
			t.Fatal(err)
		}
		img := q.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
		q.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: 50 * time.Millisecond}) // until all were asked for it
		q.hook.Stop()
		for _, address := range quietAddresses {
			q.start(address, &store.Mem{})
		}
		for _, address := range quietAddresses {
			if _, _, err := q.at(address).Manifest(t.Context(), "mirror/app", "v1"); err != nil {
				t.Fatal(err)
			}
		}
		q.pass(20 * time.Minute)
		var owners []string
		for _, address := range quietAddresses {
			if len(q.at(address).Copies()) == 0 {
				owners = append(owners, address)
			}
		}
		if len(owners) != 1 {
			t.Fatalf("%q have copied", owners)
		}
		story(q, owners[0], img)
		for _, address := range quietAddresses {
			if r := q.at(address); r != nil {
				for _, c := range r.Copies() {
					t.Errorf("%s: %v", address, c)
				}
				q.kill(address)
			}
		}
		for _, text := range append(q.hook.Complaints(), q.up.Complaints()...) {
			t.Error(text)
		}
	})
}

// A replica that dies while its outbox has events for a receiver that is down: whether it
// comes back with its records, with none, or never, the receiver gets each event once.
func TestReplicaWithEventsDies(t *testing.T) {
	for _, back := range []string{"with its records", "with none", "never"} {
		t.Run(back, func(t *testing.T) {
			quietly(t, func(q *quiet, owner string, img upstreamtest.Image) {
				records := q.kill(owner)
				q.pass(time.Minute)
				switch back {
				case "with its records":
					q.start(owner, records)
				case "with none":
					q.start(owner, &store.Mem{})
				}
				if err := q.hook.Restart(); err != nil {
					q.Fatal(err)
				}
				q.pass(30 * time.Minute)
				q.hook.WantEvents("push mirror/app:v1", "push mirror/app@"+img.Digest.String())
				ids := q.hook.IDs()
				for id, n := range ids {
					if n != 1 {
						q.Errorf("%s was delivered %d times", id, n)
					}
				}
				if len(ids) != 2 {
					q.Errorf("%v", ids)
				}
			})
		})
	}
}
