package fleet

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// Static returns Peers that never change.
func Static(peers ...string) func(context.Context) []string {
	peers = slices.Clone(peers)
	return func(context.Context) []string { return peers }
}

const (
	dnsEvery   = 5 * time.Second // how old an answer may be before it is asked for again
	dnsAgain   = time.Second     // the same after a failure
	dnsTimeout = 2 * time.Second
)

// DNS finds replicas by a name whose addresses are all of them, such as that of a headless
// service of Kubernetes. It asks every five seconds while it is in use, behind the requests;
// the last good answer counts until there is a better one. Its exported fields must not
// change after first use. It is safe for concurrent use.
type DNS struct {
	Host string // the name
	Port string // of each replica's Handler
	// Resolver asks. If nil, it is [net.DefaultResolver].
	Resolver interface {
		LookupHost(ctx context.Context, host string) ([]string, error)
	}
	// Logger gets the first failure after a success. If nil, nothing is logged.
	Logger *slog.Logger

	mu     sync.Mutex
	peers  []string
	next   time.Time
	asking chan struct{} // closed at the end of the lookup that is under way; nil if none is
	failed bool
}

// Peers is for [Fleet.Peers]. Its first call waits for an answer, for two seconds at most.
func (d *DNS) Peers(ctx context.Context) []string {
	d.mu.Lock()
	if d.asking == nil && !time.Now().Before(d.next) {
		d.asking = make(chan struct{})
		go d.ask(d.asking)
	}
	peers, asking := d.peers, d.asking
	first := peers == nil && !d.failed && asking != nil
	d.mu.Unlock()
	if !first {
		return peers
	}
	select {
	case <-asking:
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peers
}

// ask looks the name up.
func (d *DNS) ask(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), dnsTimeout)
	defer cancel()
	resolver := d.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addresses, err := resolver.LookupHost(ctx, d.Host)
	peers := make([]string, len(addresses))
	for i, a := range addresses {
		peers[i] = net.JoinHostPort(a, d.Port)
	}
	slices.Sort(peers)
	known, news := d.learn(slices.Compact(peers), err)
	close(done)
	if news && d.Logger != nil {
		d.Logger.Warn("fleet: the replicas cannot be looked up; those that are known stay", "name", d.Host, "known", known, "err", err)
	}
}

// learn takes the end of a lookup. news says that it is the first one that failed after a
// success.
func (d *DNS) learn(peers []string, err error) (known int, news bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asking = nil
	if err != nil || len(peers) == 0 {
		news, d.failed, d.next = !d.failed, true, time.Now().Add(dnsAgain)
		return len(d.peers), news
	}
	d.failed, d.peers, d.next = false, peers, time.Now().Add(dnsEvery)
	return len(d.peers), false
}
