package flight

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/backoff"
	"github.com/pullthrough/pullthrough/upstream"
)

const (
	firstPause = 100 * time.Millisecond // before the first retry; doubles
	maxStalls  = 7                      // retries in a row without progress
	longestNap = time.Minute            // the longest pause, and the longest Retry-After that is waited for
)

var (
	errIdle = errors.New("flight: the upstream sends nothing")
	errSlow = errors.New("flight: the upstream sends too little")
	errEnd  = errors.New("flight: the upstream ended early")
)

// goneError says that the rule no longer covers the flight.
type goneError struct{ err error }

func (e *goneError) Error() string { return e.err.Error() }
func (e *goneError) Unwrap() error { return e.err }

// tries decides whether and when an upstream that failed is asked again.
type tries struct {
	live   bool // it has answered well
	whole  bool // ask for everything: ranges do not work here
	stalls int  // connections in a row that brought next to nothing
}

// again judges a connection that failed at offset at after it had brought
// progress bytes.
func (t *tries) again(err error, progress, at int64) (pause time.Duration, again bool) {
	t.stalls++
	if progress >= segmentAlign {
		t.stalls = 0
	}
	var gone *goneError
	if errors.As(err, &gone) || errors.Is(err, errBroken) || errors.Is(err, ErrSize) || errors.Is(err, ErrTooLarge) || t.stalls > maxStalls {
		return 0, false
	}
	pause = backoff.Backoff{First: firstPause, Longest: longestNap}.Pause(t.stalls - 1)
	class, known := upstream.ClassOf(err)
	switch {
	case errors.Is(err, errEnd) && t.stalls == 0: // it sends large blobs in pieces
		return 0, true
	case !known: // the body broke off or stalled
		return pause, t.live
	case class == upstream.Limited:
		e, _ := errors.AsType[*upstream.Error](err)
		pause = max(pause, e.RetryAfter, time.Second)
		return pause, t.live && pause <= longestNap
	case class == upstream.Protocol:
		// Ranges may be what it cannot do: ask once for everything.
		again = !t.whole && at > 0
		t.whole = true
		return pause, again
	case class == upstream.Unreachable:
		return pause, t.live || t.stalls <= 1
	}
	return 0, false
}

// nap waits before the next try.
func nap(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ask opens a connection. An upstream that does not answer at all is cut like
// one that falls silent in the middle. cancel is that of ctx.
func (f *Flight) ask(ctx context.Context, cancel context.CancelCauseFunc, offset, length int64) (upstream.Body, error) {
	var body upstream.Body
	err := f.ring(ctx, cancel, func(repo upstream.Repository) (err error) {
		body, err = repo.Blob(ctx, f.req.Digest, offset, length)
		return err
	})
	return body, err
}

// probe asks whether the upstream gives the blob, in the way that it is fetched,
// and returns its size, -1 if that is not told.
func (f *Flight) probe(ctx context.Context) (size int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = f.ring(ctx, cancel, func(repo upstream.Repository) (err error) {
		size, err = Probe(ctx, repo, f.req.Digest)
		return err
	})
	return size, err
}

// stat asks for the size of a blob that is fetched next: by HEAD, whose answer is
// no proof and no verdict, or by probe.
func (f *Flight) stat(ctx context.Context) (size int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = f.ring(ctx, cancel, func(repo upstream.Repository) error {
		desc, err := repo.StatBlob(ctx, f.req.Digest)
		if size = desc.Size; upstream.Settles(err) && (err != nil || size >= 0) {
			return err
		}
		size, err = Probe(ctx, repo, f.req.Digest)
		return err
	})
	return size, err
}

// Probe asks for the first byte of a blob and returns the size of the blob, -1 if
// the upstream does not tell. What an upstream says to a HEAD may not be what it
// says to those who fetch; this is.
func Probe(ctx context.Context, repo upstream.Repository, d digest.Digest) (size int64, err error) {
	body, err := repo.Blob(ctx, d, 0, 1)
	if e, ok := errors.AsType[*upstream.Error](err); ok && e.Status == http.StatusRequestedRangeNotSatisfiable {
		body, err = repo.Blob(ctx, d, 0, -1) // there is no first byte
	}
	if err != nil {
		return -1, err
	}
	_ = body.Close() // a failure to end what nobody reads is no failure
	return body.Size, nil
}

// ring calls the upstream, if the rule still allows it. An error of Open that is
// the upstream's kind says that this cannot be known just now.
func (f *Flight) ring(ctx context.Context, cancel context.CancelCauseFunc, call func(upstream.Repository) error) error {
	watch := time.AfterFunc(f.group.Idle, func() { cancel(errIdle) })
	defer watch.Stop()
	repo, err := f.req.Open(ctx)
	if err == nil {
		err = call(repo)
	} else if _, later := upstream.ClassOf(err); !later {
		err = &goneError{err}
	}
	if err != nil && errors.Is(context.Cause(ctx), errIdle) {
		late := f.slow()
		late.Err = errIdle
		return late
	}
	return err
}

// protocol is the error of a download that cannot be used, for a reason that
// clients are told too.
func (f *Flight) protocol(err error) error {
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
	return &upstream.Error{Source: f.req.Source, Op: "GET blob " + f.req.Digest.String(), Class: upstream.Protocol, Err: err, Reason: reason}
}

// final is the error that a download ends with, told so that clients learn whose
// it is: a body that broke off too often is an answer that cannot be used.
func (f *Flight) final(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errEnd) || errors.Is(err, errIdle) || errors.Is(err, errSlow) {
		if _, told := upstream.ClassOf(err); !told {
			return f.protocol(err)
		}
	}
	return err
}

// mismatch is nil if a size that the upstream tells is the one that is known.
func (f *Flight) mismatch(told, known int64) error {
	if told < 0 || known < 0 || told == known {
		return nil
	}
	return f.protocol(fmt.Errorf("%w: %d, not %d", ErrSize, told, known))
}

// match compares what was hashed with the digest.
func (f *Flight) match(sum []byte) error {
	if got := digest.NewDigestFromBytes(f.req.Digest.Algorithm(), sum); got != f.req.Digest {
		return f.protocol(fmt.Errorf("%w: got %s", ErrDigest, got))
	}
	return nil
}
