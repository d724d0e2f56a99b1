package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// plan is what happens in a simulated fleet.
type plan struct {
	name                               string
	kills, joins, leaves, freezes, cut int           // how many of each
	lag                                time.Duration // until a replica learns who is there, at most
	slow                               int           // pairs of machines with a slow link
	pairs                              int           // pairs of machines that do not reach one another for a while
}

// Twenty replicas in virtual time, with clients on all of them, while replicas come and go.
// No client gets wrong bytes, and none an error but from a replica that died or froze; no replica
// follows itself in the end; and the upstream sends little more than each blob once.
//
// PULLTHROUGH_FLEET_SEED is the seed of one further run, and PULLTHROUGH_FLEET_RUNS how many
// runs follow, each with the next seed.
func TestSimulatedFleet(t *testing.T) {
	plans := []plan{
		{name: "calm"},
		{name: "lag", joins: 4, leaves: 4, lag: 8 * time.Second},
		{name: "kills", kills: 6, joins: 4, lag: 3 * time.Second},
		{name: "freezes", freezes: 6, slow: 30},
		{name: "cuts", cut: 2},
		{name: "pairs", pairs: 100},
		{name: "all", kills: 3, joins: 4, leaves: 3, freezes: 3, cut: 1, lag: 5 * time.Second, slow: 20},
	}
	for i, p := range plans {
		t.Run(p.name, func(t *testing.T) { simulate(t, p, uint64(i), 8) })
	}
	seed, err := strconv.ParseUint(os.Getenv("PULLTHROUGH_FLEET_SEED"), 10, 64)
	if err != nil {
		return
	}
	runs, _ := strconv.Atoi(os.Getenv("PULLTHROUGH_FLEET_RUNS"))
	for s := seed; s < seed+uint64(max(1, runs)); s++ {
		for _, p := range plans {
			t.Run(fmt.Sprintf("%s/%d", p.name, s), func(t *testing.T) { simulate(t, p, s, 20) })
		}
	}
}

const (
	simReplicas = 20
	simClients  = 30 // of each blob
	simTime     = 40 * time.Second
)

// world is a simulated fleet with its upstream and its clients.
type world struct {
	t     *testing.T
	plan  plan
	seed  uint64
	net   *simnet
	up    *upstreamtest.Registry
	blobs []*simBlob
	wg    sync.WaitGroup

	mu      sync.Mutex
	all     map[string]*simReplica
	members []string // addresses, as everybody will know in a while
	cuts    []simCut

	log simLog
}

// simCut cuts the fleet in two, or one machine from the others.
type simCut struct {
	from, to time.Time
	splits   bool // into two parts of any size
}

type simBlob struct {
	body        []byte
	digest      digest.Digest
	holders     map[string]bool // replicas that a client has asked for it, and that live
	lost        int             // how often there was none left
	first, last time.Time       // when it was under way
}

// simReplica is one replica. world.mu guards what changes.
type simReplica struct {
	*fleet.Fleet
	machine string
	cache   *cache.Cache
	servers []*http.Server
	clients sync.WaitGroup
	list    []string
	leaving bool
	dead    bool
	thaws   time.Time // when it is not frozen any more
}

func simulate(t *testing.T, p plan, seed uint64, blobs int) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, plan: p, seed: seed, net: newSimnet(), up: upstreamtest.NewHandler(), all: map[string]*simReplica{}}
		w.net.wrote = w.check
		chance := rand.New(rand.NewPCG(seed, 0))
		w.up.PaceEach(128<<10 + chance.Int64N(1<<20))
		server := &http.Server{Handler: w.up}
		w.wg.Go(func() { _ = server.Serve(w.net.listen(simSource + ":443")) })
		for i := range blobs {
			body := upstreamtest.Bytes(seed<<8+uint64(i), 100+chance.IntN(600<<10))
			w.blobs = append(w.blobs, &simBlob{body: body, digest: w.up.AddBlob("team/app", body), holders: map[string]bool{}})
		}
		for i := range simReplicas {
			w.join(fmt.Sprintf("r%d", i))
		}
		for _, r := range w.all {
			r.list = w.members
		}
		var events sync.WaitGroup
		for i, b := range w.blobs {
			events.Go(func() { w.want(b, rand.New(rand.NewPCG(seed, uint64(i)+100))) })
		}
		events.Go(func() { w.disturb(rand.New(rand.NewPCG(seed, 1))) })
		events.Wait()
		w.end()
		_ = server.Close()
		w.wg.Wait()
		w.judge()
	})
}

const simSource = "registry.example.com"

// join adds a replica, which knows all others.
func (w *world) join(machine string) {
	address := machine + ":5443"
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: simSource + "/team/*", Target: "mirror/*"})
	if err != nil {
		w.t.Error(err)
		return
	}
	r := &simReplica{machine: machine}
	transport := w.net.transport(machine)
	log := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.Fleet = &fleet.Fleet{Self: address, Logger: log, Secret: []byte(secret), Insecure: true, Transport: transport, Peers: func(context.Context) []string {
		w.mu.Lock()
		defer w.mu.Unlock()
		return r.list
	}}
	r.cache = &cache.Cache{ID: "fleet.example.com", Rules: rules, Store: &store.Mem{}, Upstream: r.Fleet.Opener(&upstream.Client{Transport: transport})}
	for port, server := range map[string]*http.Server{":5443": r.Server(r.cache), ":80": {Handler: r.cache}} {
		listener := w.net.listen(machine + port)
		w.wg.Go(func() { _ = server.Serve(listener) })
		r.servers = append(r.servers, server)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all[machine] = r
	w.members = append(slices.Clone(w.members), address)
	r.list = w.members
}

// learn makes every replica know the members, after a while of its own.
func (w *world) learn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.all {
		if w.plan.lag == 0 {
			r.list = w.members
			continue
		}
		lag := rand.New(rand.NewPCG(w.seed, uint64(len(r.machine))<<8+uint64(len(w.members)))).Int64N(int64(w.plan.lag))
		w.wg.Go(func() {
			time.Sleep(time.Duration(lag))
			w.mu.Lock()
			defer w.mu.Unlock()
			r.list = w.members
		})
	}
}

// disturb does what the plan says, in some order.
func (w *world) disturb(chance *rand.Rand) {
	var events []func()
	add := func(n int, f func()) {
		for range n {
			events = append(events, f)
		}
	}
	next := simReplicas
	add(w.plan.kills, func() { w.leave(w.pick(chance), false) })
	add(w.plan.leaves, func() { w.leave(w.pick(chance), true) })
	add(w.plan.joins, func() { w.join(fmt.Sprintf("r%d", next)); next++; w.learn() })
	add(w.plan.freezes, func() { w.freeze(w.pick(chance), time.Duration(chance.Int64N(int64(5*time.Second)))) })
	add(w.plan.cut, func() { w.split(chance) })
	add(w.plan.pairs, func() { w.part(w.pick(chance).machine, w.pick(chance).machine, chance) })
	for range w.plan.slow {
		a, b := w.pick(chance).machine, w.pick(chance).machine
		w.net.change(func() { w.net.slow[pairOf(a, b)] = 32<<10 + chance.Int64N(200<<10) })
	}
	chance.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	for _, f := range events {
		time.Sleep(time.Duration(chance.Int64N(int64(2*simTime) / int64(len(events)))))
		f()
	}
}

// pick returns a replica that lives and stays.
func (w *world) pick(chance *rand.Rand) *simReplica {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := slices.Sorted(maps.Keys(w.all))
	names = slices.DeleteFunc(names, func(m string) bool { return w.all[m].leaving || w.all[m].dead })
	return w.all[names[chance.IntN(len(names))]]
}

// leave ends a replica: in good order, or by death.
func (w *world) leave(r *simReplica, inOrder bool) {
	w.mu.Lock()
	r.leaving, r.dead = true, !inOrder
	w.members = slices.DeleteFunc(slices.Clone(w.members), func(a string) bool { return a == r.Self })
	w.mu.Unlock()
	if inOrder {
		r.Leave()
		w.learn()
		w.wg.Go(func() {
			r.clients.Wait()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			for _, s := range r.servers {
				_ = s.Shutdown(ctx)
			}
			w.lose(r)
			w.stop(r)
		})
		return
	}
	w.net.kill(r.machine)
	w.lose(r)
	w.stop(r)
	w.learn()
}

// stop ends the process of a replica, whose blobs are lost.
func (w *world) stop(r *simReplica) {
	for _, s := range r.servers {
		_ = s.Close()
	}
	w.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.cache.Shutdown(ctx); err != nil {
			w.t.Errorf("%s does not end: %v", r.machine, err)
		}
		r.Transport.(*http.Transport).CloseIdleConnections()
		time.Sleep(5 * time.Second) // until the last handlers have noticed that
		if b := r.Blobs(); len(b) != 0 {
			w.t.Errorf("%s: left over: %+v", r.machine, b)
		}
	})
}

// lose notes which blobs only r had: another fetch of them is none too many.
func (w *world) lose(r *simReplica) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.blobs {
		if b.holders[r.machine] {
			if delete(b.holders, r.machine); len(b.holders) == 0 {
				b.lost++
			}
		}
	}
}

// freeze stops a machine for a while.
func (w *world) freeze(r *simReplica, d time.Duration) {
	fmt.Fprintf(&w.log, "time=%s %s is frozen for %v\n", time.Now().Format(time.RFC3339Nano), r.machine, d)
	w.mu.Lock()
	w.cuts = append(w.cuts, simCut{from: time.Now(), to: time.Now().Add(d)})
	r.thaws = time.Now().Add(d)
	w.mu.Unlock()
	w.net.change(func() { w.net.frozen[r.machine] = true })
	w.wg.Go(func() {
		time.Sleep(d)
		w.net.change(func() { delete(w.net.frozen, r.machine) })
	})
}

// part cuts two machines off from one another for a while. Both reach all others.
func (w *world) part(a, b string, chance *rand.Rand) {
	w.net.change(func() { w.net.cut[pairOf(a, b)]++ })
	d := 2*time.Second + time.Duration(chance.Int64N(int64(18*time.Second)))
	fmt.Fprintf(&w.log, "time=%s %s and %s are cut off from one another for %v\n", time.Now().Format(time.RFC3339Nano), a, b, d)
	w.wg.Go(func() {
		time.Sleep(d)
		w.net.change(func() { w.net.cut[pairOf(a, b)]-- })
	})
}

// split cuts the fleet in two for a while. Both parts reach the upstream.
func (w *world) split(chance *rand.Rand) {
	w.mu.Lock()
	machines := slices.Sorted(maps.Keys(w.all))
	cut := simCut{from: time.Now(), to: time.Now().Add(2*time.Second + time.Duration(chance.Int64N(int64(8*time.Second)))), splits: true}
	w.cuts = append(w.cuts, cut)
	w.mu.Unlock()
	part := map[string]bool{}
	for _, m := range machines {
		if chance.IntN(2) == 0 {
			part[m] = true
		}
	}
	fmt.Fprintf(&w.log, "time=%s the fleet is cut in two until %s: %v\n", cut.from.Format(time.RFC3339Nano), cut.to.Format(time.RFC3339Nano), slices.Sorted(maps.Keys(part)))
	refuses := chance.IntN(2) == 0
	change := func(do func(pair [2]string)) {
		w.net.change(func() {
			w.net.refuses = refuses
			for i, a := range machines {
				for _, b := range machines[i+1:] {
					if part[a] != part[b] {
						do(pairOf(a, b))
					}
				}
			}
		})
	}
	change(func(pair [2]string) { w.net.cut[pair]++ })
	w.wg.Go(func() {
		time.Sleep(time.Until(cut.to))
		change(func(pair [2]string) { w.net.cut[pair]-- })
	})
}
