package fleet

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Static returns Peers that never change.
func Static(peers ...string) func(context.Context) []string {
	peers = slices.Clone(peers)
	return func(context.Context) []string { return peers }
}

const (
	// guestTime is how long a replica that Peers does not name is taken for one after its
	// last request.
	guestTime = time.Minute
	maxGuests = 64
)

// guests is the replicas that Peers does not name, and that have sent a request: newcomers,
// as a rule, which the others hear of a little later. Each is known by the proof that came
// with its request. The zero value is ready for use.
type guests struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// came notes a request of a replica that Peers does not name. If there are too many, those
// that are known stay.
func (g *guests) came(peer string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if _, known := g.until[peer]; !known && len(g.until) >= maxGuests {
		maps.DeleteFunc(g.until, func(_ string, until time.Time) bool { return !now.Before(until) })
		if len(g.until) >= maxGuests {
			return
		}
	}
	if g.until == nil {
		g.until = map[string]time.Time{}
	}
	g.until[peer] = now.Add(guestTime)
}

// all returns them.
func (g *guests) all() (peers []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for p, until := range g.until {
		if now.Before(until) {
			peers = append(peers, p)
		}
	}
	return peers
}

// validAddress reports whether s may be the host:port of a replica.
func validAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || len(s) > maxAddress || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("/?#@%\\", c) }) {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// maxAddress is how long the address of a replica may be.
const maxAddress = 300

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
