package cache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// tagState is what is remembered of a tag. It is replaced, never changed, but
// for checked and asked, which only grow.
type tagState struct {
	source  string
	man     *manifest // complete; nil: nothing complete is stored
	record  store.Tag
	era     int64        // of deletions, when it was read
	checked atomic.Int64 // unix nanoseconds of the last good check
	asked   atomic.Int64 // of the last question
}

// stored returns what is stored for a tag, from memory if possible. Its man is
// nil if nothing complete is.
func (e *engine) stored(ctx context.Context, p place, tag string) *tagState {
	k := tagKey{p.repo, tag}
	old, ok := e.tags.Get(k)
	era := e.deleted.era.Load()
	if ok && old.man != nil && p.ours(old.source) && old.era == era {
		return old
	}
	s := &tagState{era: era}
	if t, err := e.store.Tag(ctx, p.repo, tag); err == nil && p.ours(t.Source) {
		if man := e.complete(ctx, p, t.Digest); man != nil {
			s.man, s.record, s.source = man, t, t.Source
			s.checked.Store(t.Asked.UnixNano())
		}
		s.asked.Store(t.Asked.UnixNano())
	}
	e.tags.Update(k, func(now *tagState, ok bool) (*tagState, int64, bool) {
		if ok && now != old {
			s = now // somebody else was faster
		} else if ok {
			s.asked.Store(max(s.asked.Load(), now.asked.Load()))
		}
		return s, s.cost(), true
	})
	return s
}

// cost is what a tag holds in memory, about.
func (s *tagState) cost() int64 {
	if s.man == nil {
		return 256
	}
	return s.man.cost()
}

// askNow returns the time of a question that is sent now: later than every
// question before it, whatever the clock does.
func (s *tagState) askNow() time.Time {
	for {
		last := s.asked.Load()
		now := max(time.Now().UnixNano(), last+1)
		if s.asked.CompareAndSwap(last, now) {
			return time.Unix(0, now)
		}
	}
}

// byTag answers a pull by tag.
func (e *engine) byTag(ctx context.Context, p place, tag string, head bool) answer {
	s := e.stored(ctx, p, tag)
	if p.match == nil {
		if s.man == nil {
			return answer{err: errNoRule}
		}
		return answer{man: s.man, state: "hit"}
	}
	if s.man != nil && e.fresh(p, s) {
		return answer{man: s.man, state: "hit"}
	}
	// With nothing to stand in, only what bars the way is answered from memory.
	if err, due := e.trouble(p); err != nil && (s.man != nil || e.barred(p) != nil) {
		if due {
			go e.asked(e.ctx, p, tag, head) // ends with the engine
		}
		return e.settle(p, tag, s, answer{err: err})
	}
	wait := e.limits.Answer
	if s.man != nil {
		wait = e.limits.Stale
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errPatience)
	defer cancel()
	a := e.asked(ctx, p, tag, head)
	if a.err == error(errPatience) {
		a.err = p.tooSlow("manifest "+tag, a.err)
		if s.man != nil { // slow counts as down, or each pull would wait as long
			e.heard(p, a.err)
		}
	}
	return e.settle(p, tag, s, a)
}

// fresh reports whether the last check of a tag may be used again.
func (e *engine) fresh(p place, s *tagState) bool {
	window := p.match.Rule.Freshness
	if window == 0 {
		window = e.cfg.Freshness
	}
	return window > 0 && time.Now().UnixNano()-s.checked.Load() < int64(window)
}

// asked asks the upstream, together with others who want to know.
func (e *engine) asked(ctx context.Context, p place, tag string, head bool) answer {
	k := question{content: tagKey{p.repo, tag}, source: p.match.Source, loop: p.loop, head: head}
	a, err := e.questions.Do(ctx, k, func(wanted context.Context) answer {
		release, err := e.turn(wanted, &e.asking, p, false)
		if err != nil {
			return answer{err: err}
		}
		defer release()
		return e.ask(p, tag, head)
	})
	if err != nil {
		return answer{err: err}
	}
	return a
}

// settle is the tag table: what is served after a check that came to a.
func (e *engine) settle(p place, tag string, s *tagState, a answer) answer {
	if a.err == nil || s.man == nil || errors.Is(a.err, context.Canceled) {
		if a.state == "" {
			a.state = fwd("miss", a.err)
		}
		return a
	}
	r := p.match.Rule
	class, known := upstream.ClassOf(a.err)
	if r.RequireAccess {
		if known && class == upstream.Denied {
			return a
		}
		if refusal := e.refusal(p, tag); refusal != nil { // an outage does not lift it
			return answer{err: refusal, state: fwd("request", a.err)}
		}
	}
	age := time.Now().UnixNano() - s.checked.Load()
	if !(known && class == upstream.NotFound) && (r.MaxStale < 0 || r.MaxStale > 0 && age > int64(r.MaxStale)) {
		return a
	}
	e.stats.stale.Add(1)
	return answer{man: s.man, state: fwd("stale", a.err), stale: a.err}
}

// refusalKey is a tag at one source.
type refusalKey struct {
	tagKey
	source string
}

// noteRefusal remembers whether the last word of the upstream about a tag was no.
// Where nothing is stored it need not be: nothing could be served.
func (e *engine) noteRefusal(p place, tag string, s *tagState, err error) {
	k := refusalKey{tagKey{p.repo, tag}, p.source}
	u, ok := errors.AsType[*upstream.Error](err)
	switch {
	case ok && u.Class == upstream.Denied && s.man != nil:
		e.refusals.Put(k, u, 1)
	case err == nil, ok && u.Class == upstream.NotFound:
		if _, ok := e.refusals.Get(k); ok {
			e.refusals.Delete(k)
		}
	}
}

// refusal is the last word of the upstream about a tag, if it was no.
func (e *engine) refusal(p place, tag string) error {
	if u, ok := e.refusals.Get(refusalKey{tagKey{p.repo, tag}, p.source}); ok {
		return u
	}
	return nil
}

// tooSlow is the error of an upstream that did not answer before somebody's
// patience ended.
func (p place) tooSlow(op string, err error) *upstream.Error {
	return &upstream.Error{Source: p.match.Source, Op: op, Class: upstream.Unreachable, Timeout: true, Err: err}
}

// ask sends one question about a tag. What it learns counts even when nobody
// waits for it any more.
func (e *engine) ask(p place, tag string, head bool) answer {
	s := e.stored(e.ctx, p, tag)
	asked := s.askNow()
	var a answer
	if s.man == nil && !head {
		a.man, a.err = e.fetch(p, tag)
		a.state = fwd("miss", a.err)
	} else {
		a = e.check(p, tag, head, s)
	}
	a.asked = asked
	e.noteRefusal(p, tag, s, a.err)
	if a.err != nil {
		return a
	}
	if a.same {
		s.checked.Store(max(s.checked.Load(), asked.UnixNano()))
		return a
	}
	local := e.complete(e.ctx, p, a.man.desc.Digest)
	a.remote = local == nil
	if err := e.admit(p, tag, a.man, s); err != nil {
		e.log.Info("a new digest is not admitted", "repository", p.repo, "tag", tag, "digest", a.man.desc.Digest.String(), "err", err)
		if s.man != nil {
			return answer{man: s.man, state: "fwd=request; fwd-status=200; detail=held", asked: asked}
		}
		return answer{err: &Error{Status: http.StatusForbidden, Code: CodeDenied, Err: err,
			Message: fmt.Sprintf("tag '%s' of repository '%s' is not admitted: %s", tag, p.repo, err)}}
	}
	e.sightings.add(p, tag, a.man.desc.Digest, asked)
	switch {
	case local != nil:
		e.submit(p, local) // nothing to copy: the tag moves
	case !head:
		e.submit(p, a.man)
	}
	return a
}

// check asks whether a stored tag has moved, or where a tag is (HEAD).
func (e *engine) check(p place, tag string, head bool, s *tagState) answer {
	for try := 0; ; try++ {
		if e.headRefused(p, kindManifest) {
			return e.checkByGet(p, tag, s)
		}
		desc, err := e.resolve(p, tag)
		if !upstream.Settles(err) {
			a := e.checkByGet(p, tag, s)
			if a.err == nil {
				e.refusesHead(p, kindManifest)
			}
			return a
		}
		if err != nil {
			return answer{err: err}
		}
		if s.man != nil && desc.Digest == s.man.desc.Digest {
			return answer{man: s.man, same: true, state: "fwd=request; fwd-status=200; detail=unchanged"}
		}
		if man := e.complete(e.ctx, p, desc.Digest); man != nil {
			return answer{man: man, state: "fwd=request; fwd-status=200"}
		}
		if head {
			return e.checkByHead(p, s, desc)
		}
		man, err := e.fetch(p, desc.Digest.String())
		e.noteMissing(p, desc.Digest, err)
		if class, ok := upstream.ClassOf(err); err != nil && ok && class == upstream.NotFound && try == 0 {
			continue // it moved once more between the two requests
		}
		return answer{man: man, err: err, state: fwd("request", err)}
	}
}

// checkByHead is what a HEAD is told of a tag that moved: its promise is kept, so
// a digest that could not be had is not promised while something older can be.
func (e *engine) checkByHead(p place, s *tagState, desc ocispec.Descriptor) answer {
	if s.man != nil {
		man, err := e.promised(p, desc.Digest)
		if err != nil {
			return answer{err: err}
		}
		if man != nil {
			return answer{man: man, state: "fwd=miss; fwd-status=200"}
		}
	}
	return answer{man: newManifest(desc, nil, p.source), state: "fwd=miss; fwd-status=200"}
}

// checkByGet asks about a tag in the way that its manifest is fetched; what is
// stored need not be sent again.
func (e *engine) checkByGet(p place, tag string, s *tagState) answer {
	man, err := e.fetchUnless(e.ctx, p, tag, s.man)
	switch {
	case errors.Is(err, upstream.ErrUnchanged):
		return answer{man: s.man, same: true, state: "fwd=request; fwd-status=304; detail=unchanged"}
	case err == nil && s.man != nil && man.desc.Digest == s.man.desc.Digest:
		return answer{man: s.man, same: true, state: "fwd=request; fwd-status=200; detail=unchanged"}
	}
	return answer{man: man, err: err, state: fwd("miss", err)}
}

// resolve sends a HEAD on nobody's request.
func (e *engine) resolve(p place, reference string) (ocispec.Descriptor, error) {
	ctx, cancel := e.within(e.ctx)
	defer cancel()
	if e.ctx.Err() != nil {
		return ocispec.Descriptor{}, errShutdown
	}
	p, err := e.current(ctx, p)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc, err := e.looped(p).Resolve(ctx, reference)
	e.stats.checks.Add(1)
	if err = p.slow(ctx, err); upstream.Settles(err) {
		e.heard(p, err)
	}
	return desc, err
}

// holdKey is a digest that a tag may not stand for yet.
type holdKey struct {
	tagKey
	digest digest.Digest
}

// admit asks the embedder whether a tag may stand for a digest.
func (e *engine) admit(p place, tag string, man *manifest, s *tagState) error {
	if e.cfg.Admit == nil {
		return nil
	}
	k := holdKey{tagKey{p.repo, tag}, man.desc.Digest}
	if h, ok := e.holds.Get(k); ok && time.Now().Before(h.Until) {
		return &h
	}
	c := Candidate{Repository: p.repo, Tag: tag, Descriptor: man.desc, Manifest: man.body, Source: p.match.Source}
	if s != nil && s.man != nil {
		c.Former = s.man.desc.Digest
	}
	err := e.cfg.Admit(e.ctx, c)
	var h *Hold
	if errors.As(err, &h) {
		e.holds.Put(k, *h, 1)
	}
	return err
}

// forget drops what is remembered of a tag, after it moved.
func (e *engine) forget(k tagKey, asked time.Time) {
	e.tags.Update(k, func(old *tagState, ok bool) (*tagState, int64, bool) {
		s := &tagState{}
		if ok {
			s.asked.Store(max(old.asked.Load(), asked.UnixNano()))
		}
		return s, s.cost(), true
	})
}
