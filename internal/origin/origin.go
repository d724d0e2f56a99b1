// Package origin is the upstream side of a rule: it finds the upstream repository
// that a local one stands for, and asks it.
//
//	repository ──Find──▶ Repo ──Slot──▶ Slot ──Resolve, Manifest, BlobSize, Tags ...──▶ upstream
//	                      │
//	                      └──Connect──▶ upstream.Repository, for a download
//
// Every request follows the same rules, so that no caller can forget one:
//
//   - It is sent with the rule as it is at that moment. A rule that was removed since
//     the Repo was found answers [ErrGone], and a credential that was replaced is never
//     used again.
//   - It waits for one of Config.Requests slots, which rules share fairly.
//   - It carries CDN-Loop (RFC 8586) with the caches that led to it.
//   - It ends within Config.AnswerTimeout, and with the process.
//   - Its outcome is remembered as the health of the upstream; see [Repo.Down].
//   - What it says is left of a budget is remembered; see [Repo.Spared].
//
// A HEAD is a saving, never a verdict: which sources refuse HEAD is remembered here
// too, and so is what a source has just said that it does not have.
package origin

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/internal/share"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

var (
	// ErrGone reports that no rule maps the repository to that source any more.
	ErrGone = errors.New("cache: the rule is gone")
	// ErrRules reports a Matcher that failed.
	ErrRules = errors.New("cache: the rules cannot be read")
	// ErrOpener reports an Opener that failed.
	ErrOpener = errors.New("cache: the source of the rule cannot be opened")
	// ErrNoSources reports a Matcher that cannot find rules by their source.
	ErrNoSources = errors.New("cache: the rules cannot be searched by source")
	// ErrNoList reports an upstream.Repository that cannot list.
	ErrNoList = errors.New("cache: the source cannot be asked for lists")
	// ErrBusy reports that no slot became free within Config.SlotTimeout.
	ErrBusy = flight.ErrBusy
)

// Config says how upstreams are found and asked. Every field but Rules must be set.
type Config struct {
	Rules    rule.Matcher // If nil, no repository has an upstream.
	Upstream upstream.Opener
	// ID names this cache in CDN-Loop, and MaxHops is how many caches a request may
	// pass, this one included.
	ID      string
	MaxHops int
	// Requests is how many requests are sent at once in all, and RequestsPerHost to
	// one host.
	Requests, RequestsPerHost int
	// AnswerTimeout is how long an upstream may take for an answer, and SlotTimeout
	// how long a request waits for its slot.
	AnswerTimeout, SlotTimeout time.Duration
	// KeepBudget is how many of the requests that a host allows are kept for what is not
	// stored, by canonical host; see [Repo.Spared]. If nil, none are.
	KeepBudget map[string]int
	Log        *slog.Logger // gets each request at debug level
	// Ended is the life of the process: every request ends with it, with its cause.
	Ended context.Context
}

// Origins finds the upstream repositories of local ones. It is safe for concurrent
// use.
type Origins struct {
	cfg   Config
	slots share.Pool

	matches *lru.Cache[string, *rule.Match] // the last match of each name, for rules that may fail; nil if they cannot
	opened  *lru.Cache[upstream.Source, *opened]
	recent  recent
	health  health
	budgets budgets
	noHead  *lru.Cache[headKey, time.Time] // sources that refuse HEAD, until then
	absent  *lru.Cache[absentKey, absence] // digests that sources have just said they do not have
	counts  counts
}

// opened is an upstream repository as one generation of a rule sees it.
type opened struct {
	match      *rule.Match // the match that it was opened for first
	generation uint64
	upstream   upstream.Repository
	from       string
}

// counts is Counts while it grows.
type counts struct{ checks, manifests, connections, bytes atomic.Int64 }

// Counts says how often upstreams were asked.
type Counts struct {
	Checks      int64 // requests whether a tag has moved (HEAD)
	Manifests   int64 // manifests that were fetched
	Connections int64 // connections for downloads of blobs
	Bytes       int64 // of manifests and blobs that were received
}

// New returns the upstreams of cfg.Rules.
func New(cfg Config) *Origins {
	o := &Origins{cfg: cfg, recent: recent{seed: maphash.MakeSeed()}, budgets: newBudgets(cfg.KeepBudget)}
	o.slots.Size, o.slots.PerHost = cfg.Requests, cfg.RequestsPerHost
	o.opened = lru.New[upstream.Source, *opened](4096)
	o.noHead = lru.New[headKey, time.Time](4096)
	o.absent = lru.New[absentKey, absence](4096)
	o.health.hosts = lru.New[healthKey, trouble](4096)
	o.health.repos = lru.New[healthKey, trouble](4096)
	if _, ok := cfg.Rules.(*rule.Set); !ok {
		o.matches = lru.New[string, *rule.Match](4096)
	}
	return o
}

// Counts returns how often upstreams were asked.
func (o *Origins) Counts() Counts {
	return Counts{Checks: o.counts.checks.Load(), Manifests: o.counts.manifests.Load(), Connections: o.counts.connections.Load(), Bytes: o.counts.bytes.Load()}
}

// Slots returns how the slots of Config.Requests are used.
func (o *Origins) Slots() share.Use { return o.slots.Use() }

// Find returns the upstream side of a local repository. Without a rule it is a Repo
// that has no Match. [ErrRules] if the rules cannot be read and the repository was not
// matched before.
func (o *Origins) Find(ctx context.Context, repository string) (Repo, error) {
	if o.cfg.Rules == nil {
		return Repo{Name: repository, origins: o}, nil
	}
	m, err := o.cfg.Rules.Match(ctx, repository)
	return o.found(repository, repository, m, err)
}

// FindSource returns the upstream side of the rule whose source covers the upstream
// repository host/repository. [ErrNoSources] if the Matcher cannot tell.
func (o *Origins) FindSource(ctx context.Context, host, repository string) (Repo, error) {
	s, ok := o.cfg.Rules.(rule.SourceMatcher)
	if !ok {
		return Repo{Name: repository, origins: o}, ErrNoSources
	}
	m, err := s.MatchSource(ctx, host, repository)
	return o.found(host+" "+repository, repository, m, err)
}

// Still returns the upstream side of a repository for work that outlives its request:
// [ErrGone] if it does not come from source any more, or an [*upstream.Error] while
// that cannot be known.
func (o *Origins) Still(ctx context.Context, repository string, source upstream.Source) (Repo, error) {
	r, err := o.Find(ctx, repository)
	switch {
	case err != nil:
		return r, &upstream.Error{Source: source, Op: "match", Class: upstream.Unreachable, Err: err}
	case r.Match == nil || r.Match.Source != source:
		return r, ErrGone
	case r.closed != nil:
		return r, r.closed
	}
	return r, nil
}

// found makes a Repo of what a Matcher said about a name. If the Matcher failed, its
// last word about that name tells what is stored. The upstream is not asked then,
// since the rule or its credential may have been removed.
func (o *Origins) found(name, repository string, m *rule.Match, err error) (Repo, error) {
	plain := Repo{Name: repository, origins: o}
	switch {
	case errors.Is(err, rule.ErrNoMatch):
		if o.matches != nil {
			o.matches.Delete(name)
		}
		return plain, nil
	case err != nil && o.matches != nil:
		err = fmt.Errorf("%w: %w", ErrRules, err)
		if last, ok := o.matches.Get(name); ok {
			r := o.open(last)
			r.closed = &upstream.Error{Source: last.Source, Op: "match", Class: upstream.Unreachable, Err: err}
			return r, nil
		}
		return plain, err
	case err != nil:
		return plain, fmt.Errorf("%w: %w", ErrRules, err)
	}
	if o.matches != nil {
		if last, ok := o.matches.Get(name); !ok || last != m {
			o.matches.Put(name, m, 1)
		}
	}
	return o.open(m), nil
}

// open opens what a match stands for, once for each generation of its rule. An Opener
// that failed is asked again the next time.
func (o *Origins) open(m *rule.Match) Repo {
	r := Repo{Name: m.Repository, Match: m, origins: o}
	if known := o.recent.get(m); known != nil {
		r.upstream, r.From = known.upstream, known.from
		return r
	}
	known, ok := o.opened.Get(m.Source)
	if !ok || known.generation != m.Generation {
		up, err := o.cfg.Upstream.Open(m.Source, m.Rule.Auth)
		if err != nil {
			if r.From = "https://" + m.Source.String(); ok {
				r.From = known.from
			}
			r.closed = &upstream.Error{Source: m.Source, Op: "open", Class: upstream.Unreachable, Err: fmt.Errorf("%w: %w", ErrOpener, err)}
			return r
		}
		host := "https://" + m.Source.Host
		if g, ok := upstream.As[upstream.Originator](up); ok {
			host = g.Origin()
		}
		known = &opened{match: m, generation: m.Generation, upstream: up, from: host + "/" + m.Source.Repository}
		o.opened.Put(m.Source, known, 1)
	}
	if o.matches == nil { // a rule.Set gives the same match again
		o.recent.put(m, known)
	}
	r.upstream, r.From = known.upstream, known.from
	return r
}
