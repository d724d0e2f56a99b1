package flight

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
)

// remote is the upstream side of a flight: it sends the requests for one blob,
// and says of responses that cannot be used why. It is safe for concurrent use.
type remote struct {
	Key
	open    func(ctx context.Context) (upstream.Repository, error) // Request.Open
	idle    time.Duration                                          // how long the upstream may take to answer
	largest int64                                                  // bytes of a blob; 0 means any number
}

// get opens a connection. An upstream that does not answer at all is cut like
// one that falls silent in the middle. cancel ends ctx.
func (r *remote) get(ctx context.Context, cancel context.CancelCauseFunc, offset, length int64) (upstream.Body, error) {
	var body upstream.Body
	err := r.call(ctx, cancel, func(repo upstream.Repository) (err error) {
		body, err = repo.Blob(ctx, r.Digest, offset, length)
		return err
	})
	return body, err
}

// probe asks whether the upstream gives the blob, in the way that it is fetched,
// and returns its size, -1 if the upstream does not tell.
func (r *remote) probe(ctx context.Context) (size int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = r.call(ctx, cancel, func(repo upstream.Repository) (err error) {
		size, err = Probe(ctx, repo, r.Digest)
		return err
	})
	return size, err
}

// stat asks for the size of a blob that is fetched next: by HEAD, whose answer is
// no proof and no verdict, or by probe.
func (r *remote) stat(ctx context.Context) (size int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = r.call(ctx, cancel, func(repo upstream.Repository) error {
		desc, err := repo.StatBlob(ctx, r.Digest)
		if size = desc.Size; upstream.Settles(err) && (err != nil || size >= 0) {
			return err
		}
		size, err = Probe(ctx, repo, r.Digest)
		return err
	})
	return size, err
}

// Probe asks for the first byte of a blob and returns the size of the blob, -1 if
// the upstream does not tell. What an upstream answers to a HEAD may not be what it
// answers to a GET; this is.
func Probe(ctx context.Context, repo upstream.Repository, d digest.Digest) (size int64, err error) {
	body, err := repo.Blob(ctx, d, 0, 1)
	if e, ok := errors.AsType[*upstream.Error](err); ok && e.Status == http.StatusRequestedRangeNotSatisfiable {
		body, err = repo.Blob(ctx, d, 0, -1) // there is no first byte
	}
	if err != nil {
		return -1, err
	}
	_ = body.Close() // nothing of it is used
	return body.Size, nil
}

// call runs do with the repository, if the rule still allows it.
func (r *remote) call(ctx context.Context, cancel context.CancelCauseFunc, do func(upstream.Repository) error) error {
	watch := time.AfterFunc(r.idle, func() { cancel(errIdle) })
	defer watch.Stop()
	repo, err := r.repository(ctx)
	if err == nil {
		err = do(repo)
	}
	if err != nil && errors.Is(context.Cause(ctx), errIdle) {
		late := r.slow()
		late.Err = errIdle
		return late
	}
	return err
}

// repository opens the repository. The error is a *goneError if the rule no
// longer covers the flight; any other one says that this cannot be known just now.
func (r *remote) repository(ctx context.Context) (upstream.Repository, error) {
	repo, err := r.open(ctx)
	if err == nil {
		return repo, nil
	}
	if _, later := upstream.ClassOf(err); !later {
		err = &goneError{err}
	}
	return nil, err
}

// slow is the error of a reader whose upstream does not answer in time.
func (r *remote) slow() *upstream.Error {
	return &upstream.Error{
		Source: r.Source, Op: "GET blob " + r.Digest.String(),
		Class: upstream.Unreachable, Timeout: true, Err: context.DeadlineExceeded,
	}
}

// unusable is the error of a download that cannot be used, with a reason that
// clients see too.
func (r *remote) unusable(err error) error {
	reason := "its answer is not what was asked for"
	switch {
	case errors.Is(err, ErrDigest):
		reason = "the content does not match its digest"
	case errors.Is(err, ErrSize):
		reason = "its size is not the one that was announced"
	case errors.Is(err, ErrTooLarge):
		reason = "the blob is larger than this cache takes"
	case errors.Is(err, errIdle):
		reason = "it sends nothing"
	case errors.Is(err, errSlow):
		reason = "it sends too little"
	case errors.Is(err, errEnd), errors.Is(err, io.ErrUnexpectedEOF):
		reason = "the connection ended early"
	}
	return &upstream.Error{Source: r.Source, Op: "GET blob " + r.Digest.String(), Class: upstream.Protocol, Err: err, Reason: reason}
}

// final is the error that a download ends with. A body that broke off too often
// becomes a response that cannot be used, so that clients learn whose fault it is.
func (r *remote) final(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errEnd) || tooSlow(err) {
		if _, classified := upstream.ClassOf(err); !classified {
			return r.unusable(err)
		}
	}
	return err
}

// checkSize reports a size that is not the known one. A negative size is unknown.
func (r *remote) checkSize(size, known int64) error {
	if size < 0 || known < 0 || size == known {
		return nil
	}
	return r.unusable(fmt.Errorf("%w: %d, not %d", ErrSize, size, known))
}

// checkLargest reports a blob of at least n bytes that is larger than allowed.
func (r *remote) checkLargest(n int64) error {
	if r.largest > 0 && n > r.largest {
		return r.unusable(fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.largest))
	}
	return nil
}

// checkDigest compares the sum of all bytes with the digest.
func (r *remote) checkDigest(sum []byte) error {
	if got := digest.NewDigestFromBytes(r.Digest.Algorithm(), sum); got != r.Digest {
		return r.unusable(fmt.Errorf("%w: got %s", ErrDigest, got))
	}
	return nil
}
