package fleet

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
)

const (
	maxBefore = 3 // replicas that are asked for a blob one after another
	maxAsked  = 5 // replicas that are asked at once whether one of them has begun

	maxAskedInDoubt = 32 // if one of them does not answer
)

type opener struct {
	f    *Fleet
	next upstream.Opener
}

// Open implements [upstream.Opener].
func (o opener) Open(s upstream.Source, a auth.Authenticator) (upstream.Repository, error) {
	if o.f.bad != nil {
		return nil, o.f.bad
	}
	next, err := o.next.Open(s, a)
	if err != nil {
		return nil, err
	}
	r := repository{Repository: next, f: o.f, source: s}
	if c, ok := upstream.As[upstream.Conditional](next); ok {
		return conditional{r, c}, nil
	}
	return r, nil
}

// repository is an upstream repository whose blobs come from the fleet.
type repository struct {
	upstream.Repository
	f      *Fleet
	source upstream.Source
}

// conditional is a repository whose upstream one is [upstream.Conditional].
type conditional struct {
	repository
	upstream.Conditional
}

// Unwrap implements [upstream.Unwrapper].
func (r repository) Unwrap() upstream.Repository { return r.Repository }

// Blob opens a blob at the replica that brings it, or at the upstream if that falls to this
// one.
func (r repository) Blob(ctx context.Context, d digest.Digest, offset, length int64) (upstream.Body, error) {
	f, k := r.f, key{r.source, d}
	h := upstream.HintOf(ctx)
	switch {
	case h.Repository == "", h.Size >= 0 && h.Size < f.Least, isProbe(offset, length):
		f.counts.filled.Add(1)
		return r.Repository.Blob(ctx, d, offset, length)
	case f.roles.committed(k):
		return r.fill(ctx, h, k, offset, length, f.roles.fill(k))
	}
	if offset == 0 && length < 0 {
		if doubted := f.doubts.again(k); len(doubted) > 0 {
			f.log.Warn("fleet: a blob is asked for again; the replicas that sent it before are passed over", "self", f.Self, "peers", strings.Join(doubted, " "), "digest", d.String())
		}
	}
	q := &question{f: f, key: k, repository: h.Repository, loop: upstream.Loop(ctx), offset: offset, length: length}
	ranked := f.rank(ctx, k)
	before := ranked[:slices.Index(ranked, f.Self)]
	if body, ok, err := q.follow(ctx, before[:min(len(before), maxBefore)]); ok {
		return body, err
	}
	defer f.roles.ask(k)()
	var failed []string
	for range 2 { // a replica that was about to follow the same one may have begun meanwhile
		peer := q.find(ctx, f.rank(ctx, k), -1, failed...)
		if peer == "" {
			break
		}
		if body, ok, err := q.follow(ctx, []string{peer}); ok {
			return body, err
		}
		failed = append(failed, peer)
	}
	done, others := f.roles.fillUnless(k)
	if done == nil {
		if body, ok, err := q.follow(ctx, others); ok {
			return body, err
		}
		done = f.roles.fill(k)
	}
	return r.fill(ctx, h, k, offset, length, done)
}

// isProbe reports whether a blob is only asked for to see whether the upstream gives it.
func isProbe(offset, length int64) bool { return offset == 0 && length == 1 }

// rank returns the replicas that are worth asking for a blob, and Self, in the order of
// their ranks.
func (f *Fleet) rank(ctx context.Context, k key) []string {
	peers := slices.DeleteFunc(slices.Clone(f.members(ctx)), func(p string) bool {
		return p != f.Self && (f.health.isDead(p, func() bool { return f.ping(p) }) || f.doubts.passedOver(k, p))
	})
	return Rank(peers, k.source, k.digest)
}

// late returns the replicas that are passed over for a blob since they sent it before they
// had all of it, and that answer.
func (f *Fleet) late(ctx context.Context, k key) []string {
	if f.doubts.none() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(f.members(ctx)), func(p string) bool {
		return p == f.Self || f.health.knownDead(p) || !f.doubts.passedOver(k, p) || f.doubts.forGood(k, p)
	})
}
