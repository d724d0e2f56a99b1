package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/share"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

// place is what a local repository stands for.
type place struct {
	repo   string
	match  *rule.Match // nil: no rule, a plain repository
	up     upstream.Repository
	source string // scheme://host/repository; empty without a rule
	loop   string // CDN-Loop of questions about it that other caches have passed on; empty: this cache only
	cause  cause  // the request that led here
	// closed is why the upstream cannot be asked, whatever its health: a part of
	// the embedder's has failed. What is stored is served. nil: it can be asked.
	closed *upstream.Error
}

// opened is an upstream repository as one generation of a rule sees it.
type opened struct {
	generation uint64
	up         upstream.Repository
	source     string
}

var (
	// errGone reports that no rule maps the repository to that source any more.
	errGone = errors.New("cache: the rule is gone")
	// errRules reports a Matcher that failed.
	errRules = errors.New("cache: the rules cannot be read")
	// errOpener reports an Opener that failed.
	errOpener = errors.New("cache: the source of the rule cannot be opened")
)

// locate finds the rule of a repository. Without one the place is plain.
func (e *engine) locate(ctx context.Context, repo string) (place, error) {
	if e.cfg.Rules == nil {
		return place{repo: repo}, nil
	}
	m, err := e.cfg.Rules.Match(ctx, repo)
	return e.found(repo, repo, m, err)
}

// found makes the place of what a Matcher said about a name. If it failed, its last
// word about that name tells what is stored; the upstream is not asked then, since
// the rule may be gone, or its credential.
func (e *engine) found(name, repo string, m *rule.Match, err error) (place, error) {
	switch {
	case errors.Is(err, rule.ErrNoMatch):
		if e.matches != nil {
			e.matches.Delete(name)
		}
		return place{repo: repo}, nil
	case err != nil && e.matches != nil:
		err = fmt.Errorf("%w: %w", errRules, err)
		if last, ok := e.matches.Get(name); ok {
			p := e.at(last)
			p.closed = &upstream.Error{Source: last.Source, Op: "match", Class: upstream.Unreachable, Err: err}
			return p, nil
		}
		return place{repo: repo}, err
	case err != nil:
		return place{repo: repo}, fmt.Errorf("%w: %w", errRules, err)
	}
	if e.matches != nil {
		if last, ok := e.matches.Get(name); !ok || last != m {
			e.matches.Put(name, m, 1)
		}
	}
	return e.at(m), nil
}

// at opens what a match stands for, once for each generation of its rule. An Opener
// that fails is asked again the next time.
func (e *engine) at(m *rule.Match) place {
	p := place{repo: m.Repository, match: m}
	o, ok := e.opened.Get(m.Source)
	if !ok || o.generation != m.Generation {
		up, err := e.opener.Open(m.Source, m.Rule.Auth)
		if err != nil {
			if p.source = "https://" + m.Source.String(); ok {
				p.source = o.source
			}
			p.closed = &upstream.Error{Source: m.Source, Op: "open", Class: upstream.Unreachable, Err: fmt.Errorf("%w: %w", errOpener, err)}
			return p
		}
		origin := "https://" + m.Source.Host
		if g, ok := upstream.As[upstream.Originator](up); ok {
			origin = g.Origin()
		}
		o = &opened{generation: m.Generation, up: up, source: origin + "/" + m.Source.Repository}
		e.opened.Put(m.Source, o, 1)
	}
	p.up, p.source = o.up, o.source
	return p
}

// again finds a place once more, for work that outlives its request: the rule
// may be gone, or another.
func (e *engine) again(ctx context.Context, repo string, want upstream.Source) (place, error) {
	p, err := e.locate(ctx, repo)
	switch {
	case err != nil:
		return p, &upstream.Error{Source: want, Op: "match", Class: upstream.Unreachable, Err: err}
	case p.match == nil || p.match.Source != want:
		return p, errGone
	case p.closed != nil:
		return p, p.closed
	}
	return p, nil
}

// current is p as its rule is now, for each question that is asked on nobody's
// request: an authenticator that was exchanged since p was found must not be
// used again.
func (e *engine) current(ctx context.Context, p place) (place, error) {
	q, err := e.again(ctx, p.repo, p.match.Source)
	q.loop, q.cause = p.loop, p.cause
	return q, err
}

// turn waits for a place for p among those of a pool, which must be given back. A
// caller that leaves before takes none.
func (e *engine) turn(ctx context.Context, pool *share.Pool, p place, copy bool) (release func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.ctx, func() { cancel(errShutdown) })()
	timer := time.AfterFunc(e.limits.Busy, func() { cancel(flight.ErrBusy) })
	defer timer.Stop()
	s := p.match.Source
	return pool.Acquire(ctx, share.Claim{Rule: s.Rule, Host: s.Host, Copy: copy})
}

// ours reports whether content of that source may be served at p.
func (p place) ours(source string) bool { return p.match == nil || p.source == source }

// of is something with a digest as the source of p has it.
func (p place) of(c content) named { return named{c, p.source} }

// rule is the name of the rule, for logs.
func (p place) rule() string {
	if p.match == nil {
		return ""
	}
	return p.match.Rule.Name
}
