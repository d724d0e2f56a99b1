package cache

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/ask"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/upstream"
)

// tagCheck is what an upstream is asked about a tag.
type tagCheck struct {
	tag    tagKey
	source upstream.Source
	loop   string // see origin.Repo.Via
	head   bool
}

// byTag answers a pull by tag.
func (e *engine) byTag(ctx context.Context, r repository, tag string, head bool) answer {
	now := time.Now()
	a := e.findTag(ctx, r, tag, head, now)
	if !head && a.err == nil && a.man.MarkUsed(now) {
		e.local.used(r.Repo, a.man)
	}
	return a
}

func (e *engine) findTag(ctx context.Context, r repository, tag string, head bool, now time.Time) answer {
	s := e.local.tag(ctx, r.Repo, tag)
	if !r.Covered() {
		if s.man == nil {
			return answer{err: errNoRule}
		}
		return answer{man: s.man, state: hit}
	}
	if s.man != nil && e.fresh(r.Repo, s, now) {
		return answer{man: s.man, state: hit}
	}
	if err := r.Spared(); err != nil {
		if a, ok := e.unspent(r.Repo, tag, s, err); ok {
			return a
		}
	}
	// With nothing to stand in, only what bars the way is answered from memory.
	if err, probe := r.Down(); err != nil && (s.man != nil || r.Barred() != nil) {
		if probe {
			go e.check(e.ctx, r, tag, head, s, 0) // ends with the engine
		}
		return e.choose(r.Repo, tag, s, answer{err: err})
	}
	patience := e.limits.AnswerTimeout
	if s.man != nil {
		patience = e.limits.StaleTimeout
	}
	a := e.check(ctx, r, tag, head, s, patience)
	if patienceEnded(a.err) {
		if e.admission.decides(r.Repo, tag) {
			return e.undecided(r.Repo, tag, s)
		}
		slow := r.TooSlow("manifest "+tag, a.err)
		if a.err = slow; s.man != nil { // a slow upstream counts as down, or each pull would wait as long
			r.Heard(slow)
		}
	}
	return e.choose(r.Repo, tag, s, a)
}

// window is how long a check of a tag may be used again.
func (e *engine) window(r origin.Repo) time.Duration {
	if w := r.Match.Rule.Freshness; w != 0 {
		return w
	}
	return e.cfg.Freshness
}

// fresh reports whether the last check of a tag may be used again.
func (e *engine) fresh(r origin.Repo, s *storedTag, now time.Time) bool {
	window := e.window(r)
	return window > 0 && now.UnixNano()-s.checked.Load() < int64(window)
}

// checksAtOnce is how many checks of one tag are under way at once, so that a client
// that comes while one is under way need not wait until that one has ended.
const checksAtOnce = 4

// check sends a tag check, one for all clients that want to know. s is what is stored.
// Where an answer costs no more than a HEAD, several may be under way at once; where it
// is a whole manifest, which upstreams count as a pull, there is one. The caller waits
// for as long as its patience; if zero, until the end.
func (e *engine) check(ctx context.Context, r repository, tag string, head bool, s *storedTag, patience time.Duration) answer {
	k := tagCheck{tag: tagKey{r.Name, tag}, source: r.Match.Source, loop: r.Loop(), head: head}
	terms := ask.Terms{Age: e.window(r.Repo), Patience: patience, Impatient: origin.ErrPatience}
	if (s.man != nil || head) && !r.HeadRefused(origin.Manifest) {
		terms.AtOnce = checksAtOnce
	}
	a, joined, err := e.tagChecks.Join(ctx, k, terms)
	if joined {
		e.stats.checksShared.Add(1)
	} else {
		a, err = e.newCheck(ctx, r, k, terms, s)
	}
	if err != nil {
		return answer{err: err}
	}
	e.submitLate(r, a)
	return a
}

// newCheck is check for a client that comes when there is none to join. Another client may
// come first nevertheless.
func (e *engine) newCheck(ctx context.Context, r repository, k tagCheck, terms ask.Terms, s *storedTag) (answer, error) {
	own := false // read at the end of its own check only
	a, err := e.tagChecks.Ask(ctx, k, terms, func(wanted context.Context, begin func()) answer {
		own = true
		a, s := e.ask(wanted, begin, r, k, s)
		if a.err != nil || a.same {
			return a
		}
		return e.moved(r, k, s, a) // without a slot, since the embedder may take its time
	})
	if err == nil && !own {
		e.stats.checksShared.Add(1)
	}
	return a, err
}

// choose is the tag table: given what a check came to, it decides between that and the
// stored image.
func (e *engine) choose(r origin.Repo, tag string, s *storedTag, a answer) answer {
	if a.err == nil || s.man == nil || errors.Is(a.err, context.Canceled) {
		if a.state == "" {
			a.state = fwd("miss", a.err)
		}
		return a
	}
	class, known := upstream.ClassOf(a.err)
	if r.Match.Rule.RequireAccess {
		if known && class == upstream.Denied {
			return a
		}
		if refusal, ok := e.refusals.Get(refusalOfTag(r, tag)); ok { // an outage does not lift it
			return answer{err: refusal.err, state: fwd("request", a.err)}
		}
	}
	age, most := time.Now().UnixNano()-s.checked.Load(), r.Match.Rule.MaxStale
	if !(known && class == upstream.NotFound) && (most < 0 || most > 0 && age > int64(most)) {
		return a
	}
	e.stats.stale.Add(1)
	return answer{man: s.man, state: fwd("stale", a.err), stale: a.err}
}

// refusalKey is a tag at one source.
type refusalKey struct {
	tagKey
	from string
}

func refusalOfTag(r origin.Repo, tag string) refusalKey {
	return refusalKey{tagKey{r.Name, tag}, r.From}
}

// refusal is the upstream's refusal of a tag, and when it was asked.
type refusal struct {
	err   *upstream.Error
	asked time.Time
}

// noteRefusal remembers whether the upstream refused a tag when it was asked last. Where
// nothing is stored it need not be remembered: nothing could be served. Answers may come
// in another order than that of their questions.
func (e *engine) noteRefusal(r origin.Repo, tag string, s *storedTag, a answer) {
	k := refusalOfTag(r, tag)
	u, ok := errors.AsType[*upstream.Error](a.err)
	switch {
	case ok && u.Class == upstream.Denied && s.man != nil:
		e.refusals.Update(k, func(old refusal, known bool) (refusal, int64, bool) {
			if known && old.asked.After(a.asked) {
				return old, 1, true
			}
			return refusal{u, a.asked}, 1, s.checked.Load() < a.asked.UnixNano()
		})
	case a.err == nil, ok && u.Class == upstream.NotFound:
		if _, ok := e.refusals.Get(k); ok {
			e.refusals.Update(k, func(old refusal, known bool) (refusal, int64, bool) {
				return old, 1, known && old.asked.After(a.asked)
			})
		}
	}
}

// ask sends one tag check. What it learns counts even when all clients have left. s is
// what was stored when a client came, and now is what was stored when the upstream was
// asked.
func (e *engine) ask(wanted context.Context, begin func(), r repository, k tagCheck, s *storedTag) (a answer, now *storedTag) {
	slot, err := r.Slot(wanted, false)
	if err != nil {
		return answer{err: err}, s
	}
	defer slot.Release()
	begin()
	tag, head := k.tag.tag, k.head
	if !e.local.stays(k.tag, s) {
		s = e.local.tag(e.ctx, r.Repo, tag)
	}
	if s.man != nil && e.fresh(r.Repo, s, time.Now()) { // a check has ended since the client looked
		return answer{man: s.man, same: true, state: hit, asked: time.Unix(0, s.checked.Load())}, s
	}
	asked := s.askNow()
	if s.man == nil && !head {
		a.man, a.err = e.fetcher.manifest(e.ctx, slot, r.Repo, tag, nil)
		a.state = fwd("miss", a.err)
	} else {
		a = e.compare(slot, r, tag, head, s)
	}
	a.asked = asked
	if a.same {
		s.good(asked)
		e.admission.settle(k.tag)
	}
	e.noteRefusal(r.Repo, tag, s, a)
	return a, s
}

// moved sees to a tag that stands for something else than what is stored, s, if that is
// admitted.
func (e *engine) moved(r repository, k tagCheck, s *storedTag, a answer) answer {
	tag := k.tag.tag
	stored, since := e.find(e.ctx, r.Repo, a.man.Digest)
	a.remote = stored == nil
	if err := e.admission.admit(e.ctx, r.Repo, tag, a.man, func() *oci.Content { return s.man }); err != nil {
		return e.notAdmitted(r.Repo, tag, s, a, err)
	}
	e.sightings.add(r.Repo, tag, a.man.Digest, a.asked)
	switch {
	case stored != nil:
		e.submit(r, stored, unseen) // nothing to copy: the tag moves
	case !k.head:
		a.unkept = !e.submit(r, a.man, since)
	}
	return a
}

// compare asks whether a stored tag has moved, or where a tag is (HEAD).
func (e *engine) compare(slot origin.Slot, r repository, tag string, head bool, s *storedTag) answer {
	for try := 0; ; try++ {
		if r.HeadRefused(origin.Manifest) {
			return e.compareByGet(slot, r, tag, s)
		}
		desc, err := slot.Resolve(e.ctx, tag)
		if !upstream.Settles(err) {
			a := e.compareByGet(slot, r, tag, s)
			if a.err == nil {
				r.RefusesHead(origin.Manifest)
			}
			return a
		}
		if err != nil {
			return answer{err: err}
		}
		if s.man != nil && desc.Digest == s.man.Digest {
			return answer{man: s.man, same: true, state: unchanged}
		}
		if man := e.local.manifest(e.ctx, r.Repo, desc.Digest); man != nil {
			return answer{man: man, state: "fwd=request; fwd-status=200"}
		}
		if head {
			return e.movedByHead(slot, r, s, desc)
		}
		man, err := e.fetchMoved(slot, r, desc.Digest)
		if class, ok := upstream.ClassOf(err); err != nil && ok && class == upstream.NotFound && try == 0 {
			continue // it moved once more between the two requests
		}
		return answer{man: man, err: err, state: fwd("request", err)}
	}
}

// fetchMoved fetches the manifest that a tag has moved to, once for all checks that see it
// move. It uses the slot of one of them, which waits meanwhile.
func (e *engine) fetchMoved(slot origin.Slot, r repository, d digest.Digest) (*oci.Content, error) {
	if man := e.ledger.Find(keyOf(r.Repo, d), r.Match.Source); man != nil {
		return man, nil
	}
	a, err := e.moves.Share(e.ctx, fetchKey{sourcedOf(r.Repo, d), r.Loop(), r.Match.Generation}, func(context.Context) answer {
		man, err := e.fetchPromised(slot, r, d)
		return answer{man: man, err: err}
	})
	if err != nil {
		return nil, err
	}
	return a.man, a.err
}

// movedByHead is the answer to a HEAD of a tag that moved. It is a promise, so a digest
// that could not be had is not named while something older can be served.
func (e *engine) movedByHead(slot origin.Slot, r repository, s *storedTag, desc ocispec.Descriptor) answer {
	if s.man != nil {
		man, err := e.promised(slot, r, desc.Digest)
		if err != nil {
			return answer{err: err}
		}
		if man != nil {
			return answer{man: man, state: "fwd=miss; fwd-status=200"}
		}
	}
	return answer{man: oci.NewContent(desc, nil, r.From), state: "fwd=miss; fwd-status=200"}
}

// compareByGet asks about a tag in the way that its manifest is fetched; what is stored
// need not be sent again.
func (e *engine) compareByGet(slot origin.Slot, r repository, tag string, s *storedTag) answer {
	man, err := e.fetcher.manifest(e.ctx, slot, r.Repo, tag, s.man)
	switch {
	case errors.Is(err, upstream.ErrUnchanged):
		return answer{man: s.man, same: true, state: "fwd=request; fwd-status=304; detail=unchanged"}
	case err == nil && s.man != nil && man.Digest == s.man.Digest:
		return answer{man: s.man, same: true, state: unchanged}
	}
	return answer{man: man, err: err, state: fwd("miss", err)}
}
