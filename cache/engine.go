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
	"github.com/pullthrough/pullthrough/internal/share"
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
	asking    share.Pool // questions to upstreams
	listing   share.Pool // lists that are being answered
	questions ask.Group[question, answer]
	fetches   ask.Group[fetchKey, answer]
	listings  ask.Group[listQuestion, listAnswer]
	jobs      jobs
	stats     counters

	matches   *lru.Cache[string, *rule.Match] // the last of each name, for rules that may fail; nil: they cannot
	opened    *lru.Cache[upstream.Source, *opened]
	hot       *lru.Cache[content, *manifest]
	tags      *lru.Cache[tagKey, *tagState]
	sightings sightings
	sizes     *lru.Cache[named, blobSize]        // of blobs, from verified manifests
	children  *lru.Cache[content, digest.Digest] // manifests that an index names, and the index
	headless  *lru.Cache[headKey, time.Time]     // upstreams that do not answer HEAD, until then
	missing   *lru.Cache[named, missing]         // digests of tags that could not be had
	absent    *lru.Cache[absentKey, absence]     // what upstreams said a moment ago that they do not have
	health    health
	refusals  *lru.Cache[refusalKey, *upstream.Error] // the last word of an upstream about a tag, if it was no
	holds     *lru.Cache[holdKey, Hold]
	nexts     *lru.Cache[nextKey, struct{}] // queries of next pages that were sent, other than n and last
	lists     *shelf                        // the last whole lists
	read      *shelf                        // manifests that were read and are not complete here
	deleted   deletions
}

// named is something with a digest in a local repository, as one source has it.
type named struct {
	content
	source string // scheme://host/repository
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

// ended is the engine of a Cache that is over before it ran: it recovers nothing
// and answers nothing.
func (c *Cache) ended() *engine {
	c.once.Do(func() {
		c.e = newEngine(c)
		c.e.cancel(errShutdown)
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
		Least: max(0, l.LeastRate), Largest: max(0, l.Blob),
	}
	e.asking.Size, e.asking.PerHost, e.listing.Size = l.Requests, l.RequestsPerHost, l.Lists
	const many = 64 << 10
	e.opened = lru.New[upstream.Source, *opened](4096)
	e.hot = lru.New[content, *manifest](l.ManifestMemory)
	e.tags = lru.New[tagKey, *tagState](l.ManifestMemory)
	e.sightings.init(many)
	e.sizes = lru.New[named, blobSize](many)
	e.children = lru.New[content, digest.Digest](many)
	e.headless = lru.New[headKey, time.Time](4096)
	e.missing = lru.New[named, missing](4096)
	e.absent = lru.New[absentKey, absence](4096)
	if _, ok := c.Rules.(*rule.Set); !ok {
		e.matches = lru.New[string, *rule.Match](4096)
	}
	e.health.init()
	e.nexts = lru.New[nextKey, struct{}](many)
	e.refusals = lru.New[refusalKey, *upstream.Error](many)
	e.holds = lru.New[holdKey, Hold](4096)
	e.deleted.times = lru.New[tagKey, time.Time](4096)
	e.jobs.init(e)
	e.lists = newShelf("lists", e.jobs.records.store, l.Kept)
	e.read = newShelf("manifests", e.jobs.records.store, l.Kept)
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
	def(&l.Requests, 256)
	def(&l.RequestsPerHost, 64)
	def(&l.Lists, 64)
	def(&l.Jobs, 8)
	def(&l.Queue, 10000)
	def(&l.Attempts, 20)
	if l.ManifestMemory <= 0 {
		l.ManifestMemory = 64 << 20
	}
	if l.Orphan == 0 {
		l.Orphan = 1 << 30
	}
	if l.Kept == 0 {
		l.Kept = 32 << 20
	}
	if l.Blob == 0 {
		l.Blob = 64 << 30
	}
	if l.LeastRate == 0 {
		l.LeastRate = 1 << 10
	}
	if l.Send == 0 {
		l.Send = 2 * time.Minute
	}
	dur(&l.Idle, 30*time.Second)
	dur(&l.Answer, 20*time.Second)
	dur(&l.Stale, 2*time.Second)
	dur(&l.Busy, 15*time.Second)
	dur(&l.Wait, 24*time.Hour)
	return l
}

// Start finds the copies that a former process did not finish, takes them up, and
// waits until all are known, so that [Cache.Copies] lists them. It returns the
// error of a store whose records cannot be listed, or why ctx ended; the work goes
// on nevertheless. The first use of the Cache begins the same and waits for
// nothing.
func (c *Cache) Start(ctx context.Context) error {
	e := c.engine()
	select {
	case <-e.jobs.resumed:
		return e.jobs.unread
	case <-e.ctx.Done():
		return errShutdown
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Shutdown ends downloads and copies, which the next process takes up where
// they are, and waits for them or ctx. Requests that still stream from a
// download are cut: shut the HTTP server down first. Whatever waits in a method of
// the Cache returns with an error. A Cache that never ran does not begin to.
func (c *Cache) Shutdown(ctx context.Context) error {
	e := c.ended()
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
	if e.ctx.Err() != nil {
		return // it is not the store that failed, but us that end
	}
	e.stats.storeErrors.Add(1)
	e.log.Error("the store does not take a blob; clients are served without it",
		"rule", k.Source.Rule, "source", k.Source.String(), "digest", k.Digest.String(), "err", err)
}
