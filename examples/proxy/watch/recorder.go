// Package watch remembers what a cache did lately, for people and for metrics: the recent
// pulls and why each got what it got, counts by rule and outcome, the state of each upstream
// host, and how hits, bytes and the store's use went over the last hour and day.
//
//	rec := &watch.Recorder{}
//	client := &upstream.Client{Observe: rec.Call}
//	c := &cache.Cache{Upstream: client, Observe: rec.Request}
//	go rec.Run(ctx, c.Stats, size)
//
// All that it keeps is bounded, whatever clients and upstreams send: there are rings for
// pulls, at most so many rules and hosts are told apart, and long texts are cut.
package watch

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

// The defaults of a [Recorder].
const (
	DefaultPulls = 256
	DefaultRules = 2048
	DefaultHosts = 1024
)

// Recorder records what a cache does. The zero value works. Its fields must not change after
// first use. It is safe for concurrent use and must not be copied.
type Recorder struct {
	// MaxPulls is how many requests are remembered of each [Kind]. If zero, DefaultPulls.
	MaxPulls int
	// MaxRules is how many rules have counts of their own, and MaxHosts how many upstream
	// hosts have a state of their own. The rest is counted together as [Other]. If zero,
	// DefaultRules and DefaultHosts.
	MaxRules, MaxHosts int
	// Client names the client of a request, such as a user. If nil, it is the address
	// that the request came from.
	Client func(*http.Request) string

	once    sync.Once
	rings   [kinds]*ring
	rules   ruleTable
	hosts   hostTable
	history history
	first   [outcomes]Histogram // time to first byte
}

// Other is the name of all the rules, or hosts, beyond those that are told apart. It is the
// name of none.
const Other = "(other)"

// init makes what depends on the fields.
func (r *Recorder) init() {
	r.once.Do(func() {
		for i := range r.rings {
			r.rings[i] = newRing(orDefault(r.MaxPulls, DefaultPulls))
		}
		r.rules.most = orDefault(r.MaxRules, DefaultRules)
		r.hosts.most = orDefault(r.MaxHosts, DefaultHosts)
	})
}

func orDefault(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

// Request records a request. It is for [cache.Cache.Observe].
func (r *Recorder) Request(req *http.Request, o cache.Outcome) {
	r.init()
	out := OutcomeOf(req, o)
	i := out.index()
	counts := r.rules.of(o.Rule)
	counts.add(i, o.Bytes)
	if o.Status != 0 {
		r.first[i].observe(o.FirstByte)
	}
	if o.Access.Kind == cache.AccessPing {
		return // clients ask for /v2/ all the time, and nothing is pulled by that
	}
	p := Pull{
		Time: time.Now(), Client: r.client(req), Method: cut(o.Method, 16), Kind: o.Access.Kind, Rule: o.Rule, Repository: cut(o.Access.Repository, maxName),
		Reference: cut(o.Reference, maxName), Status: o.Status, Bytes: o.Bytes, Outcome: out, Result: o.Result, Detail: o.Detail, UpstreamStatus: o.UpstreamStatus,
		Duration: o.Duration, FirstByte: o.FirstByte,
	}
	if o.Err != nil {
		p.Error = cut(o.Err.Error(), maxText)
	}
	r.rings[kindOf(p)].add(&p)
	counts.note(&p)
}

// client names the client of a request.
func (r *Recorder) client(req *http.Request) string {
	if r.Client != nil {
		return cut(r.Client(req), maxName)
	}
	host, _, err := net.SplitHostPort(req.RemoteAddr)
	if err != nil {
		return cut(req.RemoteAddr, maxName)
	}
	return host
}
