package cache

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/upstream"
)

// answer is what a pull of a manifest comes to.
type answer struct {
	man    *oci.Content
	err    error
	remote bool      // it comes from the upstream, not from the store
	state  string    // Cache-Status without our name
	asked  time.Time // when the upstream was asked
	same   bool      // the tag still stands for what is stored
	stale  error     // why the stored image is served unchecked; nil if it was checked
	unkept bool      // it was deleted since it was asked for, and is not copied
}

// fetchKey is a manifest that is being fetched. A rule whose credential was replaced
// does not share it.
type fetchKey struct {
	sourced
	loop       string
	generation uint64
}

// byDigest answers a pull by digest: stored here, being copied, read before, or from the
// upstream. It asks the upstream only in the last case.
func (e *engine) byDigest(ctx context.Context, r repository, d digest.Digest, head bool) answer {
	a := e.findDigest(ctx, r, d, head)
	if !head && a.err == nil && a.man.MarkRead() {
		e.local.used(r.Repo, a.man)
	}
	return a
}

func (e *engine) findDigest(ctx context.Context, r repository, d digest.Digest, head bool) answer {
	man := e.local.remembered(r.Repo, d)
	if man == nil && r.Covered() { // what is being copied is not stored, and the store need not be asked
		if copied := e.ledger.Find(keyOf(r.Repo, d), r.Match.Source); copied != nil {
			if !head {
				e.submit(r, copied, unseen)
			}
			return answer{man: copied, remote: true, state: "hit; detail=copying"}
		}
	}
	since := unseen
	if man == nil {
		man, since = e.find(ctx, r.Repo, d)
	}
	if man != nil {
		e.sighted(r, man)
		return answer{man: man, state: hit}
	}
	if !r.Covered() {
		return answer{err: errNoRule}
	}
	if a, ok := e.inHand(ctx, r, d); ok {
		if a.err == nil && !head {
			e.submit(r, a.man, since)
		}
		return a
	}
	return e.askDigest(ctx, r, d, head, since)
}

// askDigest asks the upstream for a manifest by digest, which was not stored at a look.
func (e *engine) askDigest(ctx context.Context, r repository, d digest.Digest, head bool, since look) answer {
	// All clients that want the content share one request; a HEAD is a request of its own.
	refused := head && !r.HeadRefused(origin.Manifest)
	if refused {
		if a, settled := headDigest(ctx, r.Repo, d); settled {
			return a
		}
	}
	a, err := e.fetches.Share(ctx, fetchKey{sourcedOf(r.Repo, d), r.Loop(), r.Match.Generation}, func(wanted context.Context) answer {
		return e.fetchDigest(wanted, r, d, head, refused, since)
	})
	if err != nil {
		return answer{err: err}
	}
	if !head {
		e.submitLate(r, a)
	}
	return a
}

// submitLate is submit for a client that came after a deletion and got the answer to the
// question of one that came before it.
func (e *engine) submitLate(r repository, a answer) {
	if a.unkept {
		e.submit(r, a.man, unseen)
	}
}

// inHand is the answer for a digest that is not stored and that the upstream need not be
// asked for: it was read before, or the upstream is not asked now.
func (e *engine) inHand(ctx context.Context, r repository, d digest.Digest) (answer, bool) {
	if man := e.local.readBefore(ctx, r.Repo, d); man != nil {
		return answer{man: man, remote: true, state: "hit; detail=read"}, true
	}
	if err := r.Barred(); err != nil {
		return answer{err: err, state: fwd("miss", err)}, true
	}
	if err := r.Absent(origin.Manifest, d); err != nil {
		return answer{err: err, state: "miss; detail=absent"}, true
	}
	return answer{}, false
}

// fetchDigest fetches a manifest by digest for all clients that want it. With refused, the
// upstream has refused a HEAD for it. It was not stored at a look.
func (e *engine) fetchDigest(wanted context.Context, r repository, d digest.Digest, head, refused bool, since look) answer {
	slot, err := r.Slot(wanted, false)
	if err != nil {
		return answer{err: err}
	}
	defer slot.Release()
	man, err := e.fetchPromised(slot, r, d)
	if err == nil && refused {
		r.RefusesHead(origin.Manifest)
	}
	unkept := err == nil && !head && !e.submit(r, man, since)
	return answer{man: man, err: err, remote: true, state: fwd("miss", err), unkept: unkept}
}

// headDigest asks for a digest by HEAD, on the client's request; settled if that is the
// answer.
func headDigest(ctx context.Context, r origin.Repo, d digest.Digest) (a answer, settled bool) {
	slot, err := r.Slot(ctx, false)
	if err != nil {
		return answer{err: err}, true
	}
	defer slot.Release()
	desc, err := slot.Resolve(ctx, d.String())
	if !upstream.Settles(err) {
		return answer{}, false
	}
	return answer{man: oci.NewContent(desc, nil, r.From), err: err, remote: true, state: fwd("miss", err)}, true
}

// The promise of a HEAD is kept: while a digest that a tag stands for cannot be had, and
// something older is stored, a HEAD of the tag does not name that digest.

// missingTime is how long a digest that could not be had is not promised again.
const missingTime = time.Minute

// missing is why a digest that a tag stands for could not be had.
type missing struct {
	until time.Time
	err   *upstream.Error
}

// fetchPromised fetches a manifest by a digest that a tag may stand for, and remembers
// whether it could be had.
func (e *engine) fetchPromised(slot origin.Slot, r repository, d digest.Digest) (*oci.Content, error) {
	man, err := e.fetcher.manifest(e.ctx, slot, r.Repo, d.String(), nil)
	k := sourcedOf(r.Repo, d)
	u, failed := errors.AsType[*upstream.Error](err)
	switch {
	case err == nil:
		if _, ok := e.missing.Get(k); ok {
			e.missing.Delete(k)
		}
	case failed && e.sightings.has(ledger.Key{Repository: r.Name, Digest: d}):
		e.missing.Put(k, missing{time.Now().Add(max(missingTime, u.RetryAfter)), u}, 1)
	}
	return man, err
}

// promised returns the answer to a HEAD of a tag that was seen to stand for d while
// something older is stored: a client that asks for the digest next must get it. If it
// could not be had, it is fetched before it is promised again. nil, nil means that
// nothing speaks against the promise.
func (e *engine) promised(slot origin.Slot, r repository, d digest.Digest) (*oci.Content, error) {
	m, ok := e.missing.Get(sourcedOf(r.Repo, d))
	if !ok {
		return nil, nil
	}
	if time.Now().Before(m.until) {
		return nil, m.err
	}
	return e.fetchPromised(slot, r, d)
}

// fwd is a Cache-Status for something that was forwarded for a reason, with what came of
// it.
func fwd(reason string, err error) string {
	state := "fwd=" + reason
	var u *upstream.Error
	switch {
	case err == nil:
		return state + "; fwd-status=200"
	case !errors.As(err, &u):
		return state
	case spares(err):
		return state + "; detail=budget"
	case u.Status != 0:
		return state + "; fwd-status=" + strconv.Itoa(u.Status)
	case u.Timeout:
		return state + "; detail=timeout"
	}
	return state + "; detail=" + strings.ReplaceAll(string(u.Class), " ", "-")
}
