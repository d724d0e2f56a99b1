package origin

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/share"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

// Repo is a local repository and the upstream one that it stands for. It is a small
// value that is passed on; it is safe for concurrent use.
type Repo struct {
	// Name is the canonical local name.
	Name string
	// Match is the rule and the source. If nil, no rule covers the repository: it is a
	// plain one, which has no upstream.
	Match *rule.Match
	// From is where content of this repository comes from: scheme://host/repository of
	// the upstream. It is empty without a rule.
	From string

	origins  *Origins
	upstream upstream.Repository
	loop     string          // CDN-Loop that a request brought; empty: this cache begins it
	values   context.Context // of the request that led here; nil if there is none
	closed   *upstream.Error // why the upstream cannot be asked whatever its health: the Matcher or the Opener failed
}

// Via is the Repo for a request that has passed other caches; see [Origins.Passed].
func (r Repo) Via(loop string) Repo {
	r.loop = loop
	return r
}

// Under is the Repo for what begins with a request: requests to the upstream get the
// values of its context, such as a trace, and neither its deadline nor its end. A nil ctx
// has no values.
func (r Repo) Under(ctx context.Context) Repo {
	r.values = ctx
	return r
}

// Values is what [Repo.Under] was given.
func (r Repo) Values() context.Context { return r.values }

// with adds the values of the request that led to r to ctx.
func (r Repo) with(ctx context.Context) context.Context {
	if r.values == nil {
		return ctx
	}
	return valued{ctx, upstream.Detach(r.values)}
}

// valued is a context with the values of another one.
type valued struct {
	context.Context
	values context.Context
}

// Value looks in the own values first, which are those of this cache.
func (v valued) Value(key any) any {
	if own := v.Context.Value(key); own != nil {
		return own
	}
	return v.values.Value(key)
}

// Loop is what [Repo.Via] was given.
func (r Repo) Loop() string { return r.loop }

// Covered reports whether a rule covers the repository.
func (r Repo) Covered() bool { return r.Match != nil }

// Rule is the name of the rule. It is empty without one.
func (r Repo) Rule() string {
	if r.Match == nil {
		return ""
	}
	return r.Match.Rule.Name
}

// MayServe reports whether content that came from a source, in the form of From, may be
// served in this repository.
func (r Repo) MayServe(from string) bool { return r.Match == nil || r.From == from }

// still is the Repo as its rule is now, with the caches that its request has passed.
func (r Repo) still(ctx context.Context) (Repo, error) {
	now, err := r.origins.Still(ctx, r.Name, r.Match.Source)
	now.loop, now.values = r.loop, r.values
	return now, err
}

// Still reports whether the rule of the Repo is the same: nil, [ErrGone], or an
// [*upstream.Error] while that cannot be known.
func (r Repo) Still(ctx context.Context) error {
	_, err := r.still(ctx)
	return err
}

// Acquire waits for a slot of pool in the name of the Repo's rule and host, and returns
// what gives it back. The slot is a copy's, which comes after clients, or a client's. A
// caller whose ctx ends takes none. [ErrBusy] if it takes longer than
// Config.SlotTimeout.
func (r Repo) Acquire(ctx context.Context, pool *share.Pool, forCopy bool) (release func(), err error) {
	ended, s := r.origins.cfg.Ended, r.Match.Source
	claim := share.Claim{Rule: s.Rule, Host: s.Host, Copy: forCopy}
	for _, over := range [...]context.Context{ended, ctx} {
		if over.Err() != nil {
			return nil, context.Cause(over)
		}
	}
	if release, ok := pool.Try(claim); ok { // without what waiting takes
		return release, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ended, func() { cancel(context.Cause(ended)) })()
	timer := time.AfterFunc(r.origins.cfg.SlotTimeout, func() { cancel(ErrBusy) })
	defer timer.Stop()
	return pool.Acquire(ctx, claim)
}

// Connect returns the upstream for the connections of a download of a blob of that size,
// -1 if it is unknown. They are counted. The download belongs to no request: it carries
// only this cache in CDN-Loop, has limits of its own, and its outcome is reported by
// [Repo.HeardBlob].
func (r Repo) Connect(ctx context.Context, size int64) (upstream.Repository, error) {
	r.loop = ""
	now, err := r.still(r.with(ctx))
	if err != nil {
		return nil, err
	}
	return download{now.upstream, now, size}, nil
}

// loopValue is the CDN-Loop of requests to the upstream.
func (r Repo) loopValue() string {
	if r.loop == "" {
		return r.origins.cfg.ID
	}
	return r.loop
}

// prepared is ctx, which has the values of the request that led to it, as a request to
// the upstream needs it: with CDN-Loop, and with this cache's limit for the header of the
// response in the place of the client's own.
func (r Repo) prepared(ctx context.Context) context.Context {
	ctx = upstream.WithAnswerTimeout(ctx, r.origins.cfg.AnswerTimeout)
	if b := &r.origins.budgets; b.keep[r.Match.Source.Host] > 0 {
		ctx = upstream.WithRateLimits(ctx, func(l upstream.RateLimit) { b.told(r, l) })
	}
	return upstream.WithLoop(ctx, r.loopValue())
}

// download is the upstream of one connection of a download: requests carry CDN-Loop and
// the values of the request that led to it, and the bytes of blobs are counted.
type download struct {
	upstream.Repository
	repo Repo
	size int64 // of the blob, or -1
}

func (d download) prepared(ctx context.Context) context.Context {
	return upstream.WithHint(d.repo.prepared(d.repo.with(ctx)), upstream.Hint{Repository: d.repo.Name, Size: d.size})
}

// Blob counts the connection and the bytes of the body, unless another cache sends them.
func (d download) Blob(ctx context.Context, dgst digest.Digest, offset, length int64) (upstream.Body, error) {
	o := d.repo.origins
	body, err := d.Repository.Blob(d.prepared(ctx), dgst, offset, length)
	if err == nil && body.Via != "" {
		d.log(ctx, "a download reads from another cache", slog.String("via", body.Via), slog.Int64("offset", offset))
		return body, nil
	}
	d.log(ctx, "a download connects to the upstream", slog.Int64("offset", offset))
	o.counts.connections.Add(1)
	if err == nil {
		body.ReadCloser = counted{body.ReadCloser, &o.counts.bytes}
	}
	return body, err
}

// log tells the story of a download, for people who debug.
func (d download) log(ctx context.Context, message string, attrs ...slog.Attr) {
	if log := d.repo.origins.cfg.Log; log.Enabled(ctx, slog.LevelDebug) {
		log.LogAttrs(ctx, slog.LevelDebug, message, append(attrs, slog.String("rule", d.repo.Rule()), slog.String("source", d.repo.Match.Source.String()))...)
	}
}

// StatBlob asks for the size of a blob.
func (d download) StatBlob(ctx context.Context, dgst digest.Digest) (ocispec.Descriptor, error) {
	return d.Repository.StatBlob(d.prepared(ctx), dgst)
}

// counted counts what is read.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

// Read counts.
func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}
