package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// secret is what replicas prove themselves with. A real one is random, and in no program.
const secret = "not-a-secret-but-long-enough-for-an-example"

// replica is one cache with its disk and its two servers: one for clients, and one for the
// other replicas.
type replica struct {
	name   string
	fleet  *fleet.Fleet
	cache  *cache.Cache
	client *puller.Client // pulls from this replica

	plain     *upstream.Client // asks the registry, whatever the others do
	disk      *store.Dir
	tier      *store.Tier
	listeners [2]net.Listener // for clients, and for replicas
	servers   [2]*http.Server
	ended     bool
}

// newReplica makes a replica with an empty disk.
func newReplica(name string, st *stage) (*replica, error) {
	r := &replica{name: name}
	for i := range r.listeners {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		r.listeners[i] = l
	}
	var err error
	if r.disk, err = store.OpenDir(filepath.Join(st.folder, name)); err != nil {
		return nil, err
	}
	far, err := st.objects.open()
	if err != nil {
		return nil, err
	}
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: st.registry.Host() + "/team/*", Target: "team/*"})
	if err != nil {
		return nil, err
	}
	r.plain = st.registry.Client()
	r.tier = &store.Tier{Near: r.disk, Far: far}
	// Here the replicas speak without TLS, which real ones should not.
	r.fleet = &fleet.Fleet{Self: r.listeners[1].Addr().String(), Peers: st.peers, Secret: []byte(secret), Insecure: true}
	r.cache = &cache.Cache{
		ID: "fleet.example", Rules: rules, Store: r.tier, Events: webhook.SinkFunc(st.sent),
		Upstream: r.fleet.Opener(r.plain),
	}
	r.cache.Copier = r.fleet.Copier(r.cache)
	r.cache.Deleted = r.fleet.Deleted
	// So that the figures are exact: a further connection that brings no gain is given up, and
	// what was on its way is sent in vain.
	r.cache.Limits.Segments = 1
	r.client = puller.New("http://" + r.listeners[0].Addr().String())
	if st.change != nil {
		st.change(r)
	}
	return r, r.fleet.Check()
}

// start serves.
func (r *replica) start(ctx context.Context) error {
	if err := r.cache.Start(ctx); err != nil {
		return err
	}
	r.servers = [2]*http.Server{{Handler: r.cache, ReadHeaderTimeout: 10 * time.Second}, r.fleet.Server(r.cache)}
	for i, s := range r.servers {
		go func() { _ = s.Serve(r.listeners[i]) }()
	}
	return nil
}

// cut ends all connections at once, those to the registry included.
func (r *replica) cut() {
	r.ended = true
	for _, s := range r.servers {
		if s != nil {
			_ = s.Close()
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.cache.Shutdown(ctx) // which does not wait
}

// close ends a replica in good order.
func (r *replica) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.client.HTTP.CloseIdleConnections()
	r.fleet.Leave()
	var err error
	for i, s := range r.servers {
		switch {
		case s == nil:
			err = errors.Join(err, r.listeners[i].Close())
		case !r.ended:
			err = errors.Join(err, s.Shutdown(ctx))
		}
	}
	err = errors.Join(err, r.cache.Shutdown(ctx))
	r.fleet.Close()
	return errors.Join(err, r.tier.Close(), r.disk.Close())
}

// fills reports whether this replica fetches a blob from the registry now.
func (r *replica) fills() bool {
	for _, b := range r.fleet.Blobs() {
		if b.Upstream > 0 {
			return true
		}
	}
	return false
}
