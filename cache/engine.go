package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ask"
	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// engine is a Cache at work: its fields resolved once, and what it remembers.
type engine struct {
	cfg    *Cache // read only
	store  store.Store
	opener upstream.Opener
	limits Limits
	id     string
	hops   int
	log    *slog.Logger

	ctx    context.Context // ends with Shutdown
	cancel context.CancelCauseFunc
	ending sync.Mutex // held while something is begun, and while Shutdown begins
	wg     sync.WaitGroup

	flights   flight.Group
	questions ask.Group[question, answer]
	fetches   ask.Group[fetchKey, answer]
	jobs      jobs
	stats     counters

	opened    *lru.Cache[upstream.Source, *opened]
	hot       *lru.Cache[content, *manifest]
	tags      *lru.Cache[tagKey, *tagState]
	sightings sightings
	sizes     *lru.Cache[content, int64]    // of blobs, from verified manifests
	children  *lru.Cache[content, struct{}] // manifests that an index names
	health    *lru.Cache[healthKey, trouble]
	holds     *lru.Cache[holdKey, Hold]
	deleted   deletions
}

// content is something with a digest in a local repository.
type content struct {
	repo   string
	digest digest.Digest
}

// tagKey is a tag in a local repository.
type tagKey struct{ repo, tag string }

// errShutdown ends what is under way at Shutdown.
var errShutdown = errors.New("cache: shut down")

// engine resolves the fields at first use and recovers the jobs of a former
// process.
func (c *Cache) engine() *engine {
	c.once.Do(func() {
		e := newEngine(c)
		c.e = e
		e.spawn(e.recover)
	})
	return c.e
}

func newEngine(c *Cache) *engine {
	e := &engine{cfg: c, store: c.Store, opener: c.Upstream, limits: c.Limits.defaults(), id: c.ID, hops: c.MaxHops, log: c.Logger}
	if e.store == nil {
		e.store = &store.Mem{}
	}
	if e.opener == nil {
		e.opener = &upstream.Client{}
	}
	if e.id == "" {
		e.id = "pullthrough-" + rand.Text()
	}
	if e.hops == 0 {
		e.hops = 3
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	l := e.limits
	e.flights = flight.Group{
		Downloads: l.Downloads, PerHost: l.DownloadsPerHost, Orphan: l.Orphan,
		Idle: l.Idle, Answer: l.Answer, Busy: l.Busy, StoreFailed: e.storeFailed,
	}
	const many = 64 << 10
	e.opened = lru.New[upstream.Source, *opened](4096)
	e.hot = lru.New[content, *manifest](l.ManifestMemory)
	e.tags = lru.New[tagKey, *tagState](l.ManifestMemory)
	e.sightings.init(many)
	e.sizes = lru.New[content, int64](many)
	e.children = lru.New[content, struct{}](many)
	e.health = lru.New[healthKey, trouble](4096)
	e.holds = lru.New[holdKey, Hold](4096)
	e.deleted.times = lru.New[tagKey, time.Time](4096)
	e.jobs.init(e)
	return e
}

// spawn runs f on a goroutine that Shutdown waits for, and reports false if it
// has begun.
func (e *engine) spawn(f func()) bool {
	e.ending.Lock()
	defer e.ending.Unlock()
	if e.ctx.Err() != nil {
		return false
	}
	e.wg.Go(f)
	return true
}

// defaults fills the zero fields.
func (l Limits) defaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Downloads, 128)
	def(&l.DownloadsPerHost, 32)
	def(&l.Jobs, 8)
	def(&l.Queue, 10000)
	def(&l.Attempts, 20)
	if l.ManifestMemory <= 0 {
		l.ManifestMemory = 64 << 20
	}
	if l.Orphan == 0 {
		l.Orphan = 1 << 30
	}
	dur(&l.Idle, 30*time.Second)
	dur(&l.Answer, 20*time.Second)
	dur(&l.Stale, 2*time.Second)
	dur(&l.Busy, 15*time.Second)
	dur(&l.Wait, 24*time.Hour)
	return l
}

// Start finds the copies that a former process did not finish and takes them
// up. The first use of the Cache does the same.
func (c *Cache) Start(context.Context) error {
	c.engine()
	return nil
}

// Shutdown ends downloads and copies, which the next process takes up where
// they are, and waits for them or ctx. Requests that still stream from a
// download are cut: shut the HTTP server down first.
func (c *Cache) Shutdown(ctx context.Context) error {
	e := c.engine()
	e.ending.Lock()
	e.cancel(errShutdown)
	e.ending.Unlock()
	err := e.flights.Close(ctx)
	done := make(chan struct{})
	go func() { e.wg.Wait(); e.jobs.close(); close(done) }()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *engine) storeFailed(k flight.Key, err error) {
	e.stats.storeErrors.Add(1)
	e.log.Error("the store does not take a blob; clients are served without it",
		"rule", k.Source.Rule, "source", k.Source.String(), "digest", k.Digest.String(), "err", err)
}

// place is what a local repository stands for.
type place struct {
	repo   string
	match  *rule.Match // nil: no rule, a plain repository
	up     upstream.Repository
	source string // scheme://host/repository; empty without a rule
	loop   string // CDN-Loop of requests for it; empty: this cache only
}

// opened is an upstream repository as one generation of a rule sees it.
type opened struct {
	generation uint64
	up         upstream.Repository
	source     string
	err        error
}

// locate finds the rule of a repository. Without one the place is plain.
func (e *engine) locate(ctx context.Context, repo string) (place, error) {
	if e.cfg.Rules == nil {
		return place{repo: repo}, nil
	}
	m, err := e.cfg.Rules.Match(ctx, repo)
	if errors.Is(err, rule.ErrNoMatch) {
		return place{repo: repo}, nil
	}
	if err != nil {
		return place{}, err
	}
	return e.at(m)
}

// at opens what a match stands for, once for each generation of its rule.
func (e *engine) at(m *rule.Match) (place, error) {
	o, ok := e.opened.Get(m.Source)
	if !ok || o.generation != m.Generation {
		o = &opened{generation: m.Generation}
		o.up, o.err = e.opener.Open(m.Source, m.Rule.Auth)
		if o.err == nil {
			origin := "https://" + m.Source.Host
			if g, ok := o.up.(upstream.Originator); ok {
				origin = g.Origin()
			}
			o.source = origin + "/" + m.Source.Repository
		}
		e.opened.Put(m.Source, o, 1)
	}
	return place{repo: m.Repository, match: m, up: o.up, source: o.source}, o.err
}

// again finds a place once more, for work that outlives its request: the rule
// may be gone, or another.
func (e *engine) again(ctx context.Context, repo string, want upstream.Source) (place, error) {
	p, err := e.locate(ctx, repo)
	if err != nil {
		return p, err
	}
	if p.match == nil || p.match.Source != want {
		return p, errGone
	}
	return p, nil
}

// current is p as its rule is now, for each question that is asked on nobody's
// request: an authenticator that was exchanged since p was found must not be
// used again.
func (e *engine) current(ctx context.Context, p place) (place, error) {
	q, err := e.again(ctx, p.repo, p.match.Source)
	q.loop = p.loop
	return q, err
}

// errGone reports that no rule maps the repository to that source any more.
var errGone = errors.New("cache: the rule is gone")

// ours reports whether content of that source may be served at p.
func (p place) ours(source string) bool { return p.match == nil || p.source == source }

// rule is the name of the rule, for logs.
func (p place) rule() string {
	if p.match == nil {
		return ""
	}
	return p.match.Rule.Name
}
