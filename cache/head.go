package cache

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/upstream"
)

// A HEAD is a saving, never a verdict: before something counts as denied or
// missing it was asked for by GET, as [upstream.Settles] says. Nor is a HEAD a
// proof by its status alone.

// headTime is how long an upstream that does not answer HEAD is asked by GET at
// once, so that this costs one request and not two.
const headTime = 10 * time.Minute

// headKey is who does not answer HEAD, of what.
type headKey struct {
	source upstream.Source
	kind   kind
}

// headRefused reports whether a source is known not to answer HEAD.
func (e *engine) headRefused(p place, k kind) bool {
	until, ok := e.headless.Get(headKey{p.match.Source, k})
	return ok && time.Now().Before(until)
}

// refusesHead notes that a source answered GET after it had not answered HEAD.
func (e *engine) refusesHead(p place, k kind) {
	e.headless.Put(headKey{p.match.Source, k}, time.Now().Add(headTime), 1)
}

// statBlob answers HEAD for a blob.
func (e *engine) statBlob(ctx context.Context, p place, d digest.Digest) blobAnswer {
	if a, ok := e.local(ctx, p, d); ok {
		return a
	}
	if p.match == nil {
		return blobAnswer{err: errUnknown}
	}
	if size, ok := e.known(p, d); ok {
		return blobAnswer{size: size, state: "hit; detail=known", remote: true}
	}
	if err := e.barred(p); err != nil {
		return blobAnswer{err: err, state: fwd("miss", err)}
	}
	if err := e.absentNow(p, kindBlob, d); err != nil {
		return blobAnswer{err: err, state: "miss; detail=absent"}
	}
	release, err := e.turn(ctx, &e.asking, p, false)
	if err != nil {
		return blobAnswer{err: err}
	}
	defer release()
	ctx, cancel := e.within(ctx)
	defer cancel()
	size, err := e.askBlob(ctx, p, d)
	err = p.slow(ctx, err)
	e.heard(p, err)
	e.noteAbsent(p, kindBlob, d, err)
	return blobAnswer{size: size, err: err, state: fwd("miss", err), remote: true}
}

// askBlob asks the upstream for the size of a blob: by HEAD if that tells, else in
// the way that the blob is fetched.
func (e *engine) askBlob(ctx context.Context, p place, d digest.Digest) (size int64, err error) {
	refused := false
	if !e.headRefused(p, kindBlob) {
		desc, err := e.looped(p).StatBlob(ctx, d)
		if upstream.Settles(err) && (err != nil || desc.Size >= 0) {
			return desc.Size, err
		}
		refused = true
	}
	size, err = flight.Probe(ctx, e.looped(p), d)
	if err == nil && refused {
		e.refusesHead(p, kindBlob)
	}
	return size, err
}

// missingTime is how long a digest that could not be had is not promised again.
const missingTime = time.Minute

// missing is why a digest that a tag stands for could not be had.
type missing struct {
	until time.Time
	err   *upstream.Error
}

// noteMissing remembers that the digest of a tag could not be had, or that it can.
func (e *engine) noteMissing(p place, d digest.Digest, err error) {
	k := p.of(content{p.repo, d})
	u, failed := errors.AsType[*upstream.Error](err)
	switch {
	case err == nil:
		if _, ok := e.missing.Get(k); ok {
			e.missing.Delete(k)
		}
	case failed && e.sightings.stands(k.content):
		e.missing.Put(k, missing{time.Now().Add(max(missingTime, u.RetryAfter)), u}, 1)
	}
}

// promised returns the answer to a HEAD of a tag that was seen to stand for d while
// something older is complete here: a client that asks for the digest next must
// get it. If it could not be had, it is not promised before it is in hand.
func (e *engine) promised(p place, d digest.Digest) (*manifest, error) {
	m, ok := e.missing.Get(p.of(content{p.repo, d}))
	if !ok {
		return nil, nil
	}
	if time.Now().Before(m.until) {
		return nil, m.err
	}
	man, err := e.fetch(p, d.String())
	e.noteMissing(p, d, err)
	return man, err
}
