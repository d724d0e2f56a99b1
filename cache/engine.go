package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ask"
	"github.com/pullthrough/pullthrough/internal/crew"
	"github.com/pullthrough/pullthrough/internal/gate"
	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/internal/share"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// engine is a Cache at work. It answers pulls:
//
//	request ──▶ origins (the rule) ──▶ local (what is stored)
//	                             └───▶ fetcher (upstream) ──▶ ledger (a copy job) ──▶ worker
//
// Nothing on the right calls anything on its left.
type engine struct {
	cfg    *Cache // read only
	limits Limits
	log    *slog.Logger

	ctx    context.Context // ends with Shutdown
	cancel context.CancelCauseFunc
	work   gate.Gate // closed by Shutdown
	crew   *crew.Crew

	origins   *origin.Origins
	local     *local
	fetcher   *fetcher
	ledger    *ledger.Ledger
	worker    *worker
	evictor   *evictor
	admission *admission
	stats     counters

	listing    share.Pool // lists that are being answered
	tagChecks  ask.Group[tagCheck, answer]
	fetches    ask.Group[fetchKey, answer]
	moves      ask.Group[fetchKey, answer] // fetches by checks of tags
	listChecks ask.Group[listQuestion, listAnswer]
	sightings  sightings
	missing    *lru.Cache[sourced, missing]    // digests of tags that could not be had
	refusals   *lru.Cache[refusalKey, refusal] // tags that the upstream refused when it was asked last
	nexts      *lru.Cache[nextKey, struct{}]   // queries of next pages that were sent, other than n and last
	lists      *lists
}

// tagKey is a tag in a local repository.
type tagKey struct{ repository, tag string }

// errShutdown ends what is under way at Shutdown.
var errShutdown = errors.New("cache: shut down")

// engine resolves the fields at first use and takes up the copy jobs of a former
// process.
func (c *Cache) engine() *engine {
	c.once.Do(func() {
		c.e = newEngine(c)
		c.e.ledger.Start()
		c.e.work.Go(c.e.recover)
		if c.Eviction.on() {
			c.e.work.Go(func() { c.e.evictor.run(c.e.ctx) })
		}
		if store.IsShared(c.e.local.store) {
			c.e.work.Go(func() { c.e.local.forgetOften(c.e.ctx) })
		}
	})
	return c.e
}

// ended is the engine of a Cache that is over before it ran: it takes up nothing and
// answers nothing.
func (c *Cache) ended() *engine {
	c.once.Do(func() {
		c.e = newEngine(c)
		c.e.cancel(errShutdown)
	})
	return c.e
}

func newEngine(c *Cache) *engine {
	e := &engine{cfg: c, limits: c.Limits.defaults(), log: c.Logger}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	e.crew = crew.New()
	context.AfterFunc(e.ctx, e.crew.Close)
	e.tagChecks.Go, e.fetches.Go, e.listChecks.Go = e.crew.Go, e.crew.Go, e.crew.Go
	e.origins = newOrigins(c, e.limits, e.log, e.ctx)
	s := c.Store
	if s == nil {
		s = &store.Mem{}
	}
	records, _ := store.As[store.Records](s)
	e.local = newLocal(s, records, e.limits, e.log, &e.stats)
	e.fetcher = newFetcher(c, e.local, e.limits, e.log, &e.stats, e.ctx)
	e.fetcher.flights.Go = e.crew.Go
	e.admission = newAdmission(c)
	e.lists = &lists{shelf: newShelf("lists", records, e.limits.KeptBytes), stats: &e.stats, ended: e.ctx}
	e.worker = &worker{
		copier: c.Copier, events: c.Events, limits: e.limits, log: e.log, origins: e.origins, local: e.local,
		fetcher: e.fetcher, admission: e.admission, lists: e.lists,
	}
	if t, ok := c.Copier.(Teller); ok {
		e.worker.teller, e.worker.told = t, newTold(records)
	}
	e.ledger = newLedger(e, records)
	e.worker.ledger = e.ledger
	e.evictor = newEvictor(c.Eviction, e.log)
	e.evictor.local, e.evictor.origins, e.evictor.ledger = e.local, e.origins, e.ledger
	e.fetcher.room = e.evictor.room
	if c.Eviction.on() {
		e.local.stored = e.evictor.stored
	}

	e.listing.Size = e.limits.Lists
	e.sightings.init(many)
	e.missing = lru.New[sourced, missing](4096)
	e.refusals = lru.New[refusalKey, refusal](many)
	e.nexts = lru.New[nextKey, struct{}](many)
	return e
}

// many is how many small things are remembered.
const many = 64 << 10

func newOrigins(c *Cache, l Limits, log *slog.Logger, ended context.Context) *origin.Origins {
	cfg := origin.Config{
		Rules: c.Rules, Upstream: c.Upstream, ID: c.ID, MaxHops: c.MaxHops, Requests: l.Requests, RequestsPerHost: l.RequestsPerHost,
		AnswerTimeout: l.AnswerTimeout, SlotTimeout: l.SlotTimeout, KeepBudget: c.KeepBudget, Log: log, Ended: ended,
	}
	if cfg.Upstream == nil {
		cfg.Upstream = &upstream.Client{}
	}
	if cfg.ID == "" {
		cfg.ID = "pullthrough-" + rand.Text()
	}
	if cfg.MaxHops == 0 {
		cfg.MaxHops = 3
	}
	return origin.New(cfg)
}

func newLedger(e *engine, records store.Records) *ledger.Ledger {
	cfg := ledger.Config{
		Worker: e.worker, NotFound: store.ErrNotFound, AtOnce: e.limits.Jobs, Most: e.limits.MaxJobs, Memory: e.limits.ManifestMemory,
		Wait: e.limits.IndexWait, Go: e.crew.Go, Alone: e.alone, Closed: errShutdown, Log: e.log,
		Tracked: e.worker.teller != nil,
	}
	if records != nil {
		cfg.Records, cfg.Write = records, e.local.recordWriter()
	}
	if parked := e.cfg.Parked; parked != nil {
		cfg.Parked = func(c ledger.Copy) { parked(copyState(c)) }
	}
	return ledger.New(cfg)
}

// recover goes on with what a former process left, beside its copy jobs, which the
// ledger knows.
func (e *engine) recover() {
	if lacks := store.Lacks(e.local.store); len(lacks) > 0 && e.cfg.Store != nil {
		e.log.Warn("the store lacks abilities", "without", strings.Join(lacks, "; "))
	}
	if e.ledger.Ready(e.ctx) != nil {
		return
	}
	for _, c := range e.ledger.Copies("") {
		if r, err := e.origins.Still(e.ctx, c.Job.Repository, c.Job.Source); err == nil {
			e.local.note(r, c.Manifest)
		}
	}
	e.finishDeletes()
	if e.worker.told != nil {
		e.worker.told.shelf.load(e.ctx)
	}
	e.lists.shelf.load(e.ctx)
	e.local.read.load(e.ctx)
}

// Start finds the copies that a former process did not finish, takes them up, and
// waits until all are known, so that [Cache.Copies] lists them. It returns the
// error of a store whose records cannot be listed, or why ctx ended; the work goes
// on nevertheless. The first use of the Cache begins the same and waits for
// nothing.
func (c *Cache) Start(ctx context.Context) error {
	l := c.engine().ledger
	if err := l.Ready(ctx); err != nil {
		return err
	}
	return l.Unread()
}

// Shutdown ends downloads and copies, which the next process takes up where
// they are, and waits for them or ctx. Requests that still stream from a
// download are cut: shut the HTTP server down first. Whatever waits in a method of
// the Cache returns with an error. A Cache that never ran does not begin to.
func (c *Cache) Shutdown(ctx context.Context) error {
	e := c.ended()
	e.work.Go(e.ledger.Close)
	e.work.Close()
	e.cancel(errShutdown)
	err := e.fetcher.flights.Close(ctx)
	if late := e.work.Wait(ctx); late != nil {
		return late
	}
	return err
}

// patienceEnded reports whether a client's patience has ended, as opposed to the
// client's own deadline.
func patienceEnded(err error) bool { return err == origin.ErrPatience }
