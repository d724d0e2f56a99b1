package origin

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/upstream"
)

// Slot is the right to send requests to an upstream, one after the other. It is used by
// one goroutine, which must release it once.
type Slot struct {
	repo    Repo
	release func()
}

// Slot waits for one of Config.Requests slots. See [Repo.Acquire] for its errors.
func (r Repo) Slot(ctx context.Context, forCopy bool) (Slot, error) {
	release, err := r.Acquire(ctx, &r.origins.slots, forCopy)
	return Slot{r, release}, err
}

// Release gives the slot back.
func (s Slot) Release() { s.release() }

// begin prepares one request: the rule as it is now, and a context that ends with
// Config.AnswerTimeout and with the process. stop must be called.
func (s Slot) begin(ctx context.Context) (_ context.Context, now Repo, stop func(), err error) {
	ended := s.repo.origins.cfg.Ended
	if ended.Err() != nil {
		return ctx, Repo{}, func() {}, context.Cause(ended)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.repo.origins.cfg.AnswerTimeout, errAnswer)
	unlink := context.AfterFunc(ended, cancel)
	stop = func() { unlink(); cancel() }
	ctx = s.repo.with(ctx)
	if now, err = s.repo.still(ctx); err != nil {
		return ctx, now, stop, err
	}
	return now.prepared(ctx), now, stop, nil
}

// logRequest tells the story of a request, for people who debug.
func (r Repo) logRequest(ctx context.Context, begun time.Time, op, reference string, err error) {
	log := r.origins.cfg.Log
	if !log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{slog.String("rule", r.Rule()), slog.String("source", r.Match.Source.String()), slog.String("op", op),
		slog.String("reference", reference), slog.Duration("took", time.Since(begun))}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	log.LogAttrs(ctx, slog.LevelDebug, "the upstream was asked", attrs...)
}

// Resolve asks for the descriptor of a tag or digest by HEAD. An error for which
// [upstream.Settles] is false says only that HEAD is refused.
func (s Slot) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	ctx, now, stop, err := s.begin(ctx)
	defer stop()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	begun := time.Now()
	desc, err := now.upstream.Resolve(ctx, reference)
	now.logRequest(ctx, begun, "resolve", reference, err)
	if !isDigest(reference) {
		s.repo.origins.counts.checks.Add(1)
	}
	if err = now.late(ctx, err); upstream.Settles(err) {
		now.Heard(err)
		now.noteAbsent(Manifest, reference, err)
	}
	return desc, err
}

// Manifest fetches a manifest. If known is not empty and the upstream says that the
// reference still stands for that digest, the error is [upstream.ErrUnchanged].
func (s Slot) Manifest(ctx context.Context, reference string, known digest.Digest) (desc ocispec.Descriptor, body []byte, err error) {
	ctx, now, stop, err := s.begin(ctx)
	defer stop()
	if err != nil {
		return desc, nil, err
	}
	begun := time.Now()
	if c, ok := upstream.As[upstream.Conditional](now.upstream); ok && known != "" {
		desc, body, err = c.ManifestUnless(ctx, reference, known)
	} else {
		desc, body, err = now.upstream.Manifest(ctx, reference)
	}
	now.logRequest(ctx, begun, "manifest", reference, err)
	if errors.Is(err, upstream.ErrUnchanged) {
		now.Heard(nil)
		return desc, nil, err
	}
	err = now.late(ctx, err)
	now.Heard(err)
	now.noteAbsent(Manifest, reference, err)
	if err == nil {
		s.repo.origins.counts.manifests.Add(1)
		s.repo.origins.counts.bytes.Add(int64(len(body)))
	}
	return desc, body, err
}

// BlobSize asks for the size of a blob: by HEAD if that tells, else in the way that the
// blob is fetched. It is -1 if the upstream does not say.
func (s Slot) BlobSize(ctx context.Context, d digest.Digest) (size int64, err error) {
	ctx, now, stop, err := s.begin(ctx)
	defer stop()
	if err != nil {
		return -1, err
	}
	begun := time.Now()
	size, err = now.blobSize(ctx, d)
	now.logRequest(ctx, begun, "blob size", d.String(), err)
	err = now.late(ctx, err)
	now.HeardBlob(d, err)
	return size, err
}

func (r Repo) blobSize(ctx context.Context, d digest.Digest) (size int64, err error) {
	refused := false
	if !r.HeadRefused(Blob) {
		desc, err := r.upstream.StatBlob(ctx, d)
		if upstream.Settles(err) && (err != nil || desc.Size >= 0) {
			return desc.Size, err
		}
		refused = true
	}
	size, err = flight.Probe(ctx, r.upstream, d)
	if err == nil && refused {
		r.RefusesHead(Blob)
	}
	return size, err
}

// Tags asks for a page of the list of tags. [ErrNoList] if the upstream cannot be asked
// for one.
func (s Slot) Tags(ctx context.Context, query url.Values) (page upstream.TagPage, err error) {
	ctx, now, stop, err := s.begin(ctx)
	defer stop()
	if err != nil {
		return page, err
	}
	l, ok := upstream.As[upstream.TagLister](now.upstream)
	if !ok {
		return page, ErrNoList
	}
	begun := time.Now()
	page, err = l.Tags(ctx, query)
	now.logRequest(ctx, begun, "tags", "", err) // an upstream's own query may hold a token
	return page, now.heardList(ctx, query, err)
}

// Referrers asks for a page of the manifests that refer to a digest. [ErrNoList] if the
// upstream cannot be asked for one.
func (s Slot) Referrers(ctx context.Context, d digest.Digest, query url.Values) (page upstream.ReferrerPage, err error) {
	ctx, now, stop, err := s.begin(ctx)
	defer stop()
	if err != nil {
		return page, err
	}
	l, ok := upstream.As[upstream.ReferrerLister](now.upstream)
	if !ok {
		return page, ErrNoList
	}
	begun := time.Now()
	page, err = l.Referrers(ctx, d, query)
	now.logRequest(ctx, begun, "referrers", d.String(), err)
	return page, now.heardList(ctx, query, err)
}

// heardList is what a list came to. A failure says nothing about the upstream if the
// request had parameters, which may be a client's and what the upstream failed at.
func (r Repo) heardList(ctx context.Context, query url.Values, err error) error {
	if err = r.late(ctx, err); err == nil || len(query) == 0 {
		r.Heard(err)
	}
	return err
}

var (
	// errAnswer ends a request that was not answered within Config.AnswerTimeout.
	errAnswer = &timeUp{"cache: the upstream did not answer in time"}
	// ErrPatience ends the wait of a client for an answer, and not the request.
	ErrPatience error = &timeUp{"cache: the client waits no longer for the upstream"}
)

// timeUp is the end of a time that this cache allows, as opposed to one that its caller
// does.
type timeUp struct{ text string }

// Error returns the text.
func (t *timeUp) Error() string { return t.text }

// Is makes it a deadline for everybody else.
func (t *timeUp) Is(target error) bool { return target == context.DeadlineExceeded }

// late makes a failure the upstream's if this cache's limit ended the request, and not
// its caller.
func (r Repo) late(ctx context.Context, err error) error {
	u, ok := errors.AsType[*upstream.Error](err)
	if !ok || u.Owner != upstream.Caller || context.Cause(ctx) != error(errAnswer) {
		return err
	}
	late := *u
	late.Owner, late.Timeout, late.Class = upstream.Home, true, upstream.Unreachable
	return &late
}

// TooSlow is the error of an upstream that did not answer before a client's patience
// ended.
func (r Repo) TooSlow(op string, err error) *upstream.Error {
	return &upstream.Error{Source: r.Match.Source, Op: op, Class: upstream.Unreachable, Timeout: true, Err: err}
}
