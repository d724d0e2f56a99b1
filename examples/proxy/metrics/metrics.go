// Package metrics serves what a proxy counts to Prometheus.
//
// Each label has few values, whatever clients and upstreams send. Rules, receivers and
// credential sets are those of the configuration, hosts those of its rules; beyond so many of
// them, the rest counts as [watch.Other]. No label has a name of a repository, a tag, a digest,
// a client or an error's text.
package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/examples/proxy/prefetch"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// Source is where the figures come from. Its fields must not change after first use.
type Source struct {
	// Cache is the cache. It is required.
	Cache *cache.Cache
	// Recorder watches the cache and its upstreams. It is required.
	Recorder *watch.Recorder
	// Outbox delivers the events. If nil, there are no receivers.
	Outbox *webhook.Outbox
	// Size tells the size of the store; it may hang. If nil, the size is not known.
	Size func(context.Context) (store.Size, error)
	// Credentials returns the credential sets that are in use. If nil, there are none.
	Credentials func() []*auth.CredentialSet
	// Prefetch returns the figures of the prefetch lists. If nil, there are none.
	Prefetch func() prefetch.Stats
	// Fleet is this replica among others. If nil, there are no others.
	Fleet Fleet
	// Logger gets what goes wrong. If nil, nothing is logged.
	Logger *slog.Logger
}

// Fleet is the part of [fleet.Fleet] that has figures.
type Fleet interface {
	Members(ctx context.Context) []fleet.Member
	Stats() fleet.Stats
}

// The bounds of a scrape.
const (
	scrapesAtOnce = 4
	scrapeTimeout = 10 * time.Second
	maxNames      = 1024 // receivers and credential sets that are told apart
	maxName       = 128  // bytes of a label
)

// Handler returns the handler of /metrics.
func Handler(s Source) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(New(s), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	o := promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: scrapesAtOnce, Timeout: scrapeTimeout}
	if s.Logger != nil {
		o.ErrorLog = slog.NewLogLogger(s.Logger.Handler(), slog.LevelError)
	}
	return promhttp.HandlerFor(r, o)
}

// New returns a collector of all [Families].
func New(s Source) prometheus.Collector {
	return &collector{Source: s, size: watch.Patient[store.Size]{Call: s.Size}, descs: descs()}
}

// collector reads the figures at each scrape, and keeps none.
type collector struct {
	Source
	size  watch.Patient[store.Size]
	descs map[string]*prometheus.Desc
}

// Describe sends the description of each family.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect sends all figures.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := &scrape{descs: c.descs, to: to, now: time.Now()}
	s.requests(c.Recorder)
	s.upstreams(c.Recorder.Hosts())
	s.work(c.Cache.Stats())
	s.copies(c.Cache.CopiesPage(cache.CopyFilter{Limit: -1}).Counts)
	s.gauge("pullthrough_held_tags", float64(len(c.Cache.HeldTags()))) // at most 4096
	s.slots(c.Cache.Slots())
	if c.Outbox != nil {
		s.deliveries(c.Outbox.States())
	}
	if c.Size != nil {
		size, err := c.size.Do(context.Background())
		s.store(size, err)
	}
	if c.Prefetch != nil {
		s.prefetch(c.Prefetch())
	}
	if c.Fleet != nil {
		s.fleet(c.Fleet.Members(context.Background()), c.Fleet.Stats())
	}
	if c.Credentials != nil {
		s.credentials(c.Credentials())
	}
}
