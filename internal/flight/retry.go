package flight

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream"
)

const (
	firstPause = 100 * time.Millisecond // before the first retry; doubles
	maxStalls  = 7                      // retries in a row without progress
	longestNap = time.Minute            // a Retry-After that is waited for
)

var (
	errIdle = errors.New("flight: the upstream sends nothing")
	errEnd  = errors.New("flight: the upstream ended early")
	errSize = errors.New("the size is not the one that was announced")
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
	if errors.As(err, &gone) || errors.Is(err, errBroken) || errors.Is(err, errSize) || t.stalls > maxStalls {
		return 0, false
	}
	pause = firstPause << max(0, t.stalls-1)
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

// stat asks whether the blob is there.
func (f *Flight) stat(ctx context.Context) (ocispec.Descriptor, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var desc ocispec.Descriptor
	err := f.ring(ctx, cancel, func(repo upstream.Repository) (err error) {
		desc, err = repo.StatBlob(ctx, f.req.Digest)
		return err
	})
	return desc, err
}

// ring calls the upstream, if the rule still allows it.
func (f *Flight) ring(ctx context.Context, cancel context.CancelCauseFunc, call func(upstream.Repository) error) error {
	watch := time.AfterFunc(f.group.Idle, func() { cancel(errIdle) })
	defer watch.Stop()
	repo, err := f.req.Open(ctx)
	if err != nil {
		err = &goneError{err}
	} else {
		err = call(repo)
	}
	if err != nil && errors.Is(context.Cause(ctx), errIdle) {
		late := f.slow()
		late.Err = errIdle
		return late
	}
	return err
}

func (f *Flight) protocol(err error) error {
	return &upstream.Error{Source: f.req.Source, Op: "GET blob " + f.req.Digest.String(), Class: upstream.Protocol, Err: err}
}

// mismatch is nil if a size that the upstream tells is the one that is known.
func (f *Flight) mismatch(told, known int64) error {
	if told < 0 || known < 0 || told == known {
		return nil
	}
	return f.protocol(fmt.Errorf("%w: %d, not %d", errSize, told, known))
}

// match compares what was hashed with the digest.
func (f *Flight) match(sum []byte) error {
	if got := digest.NewDigestFromBytes(f.req.Digest.Algorithm(), sum); got != f.req.Digest {
		return f.protocol(fmt.Errorf("%w: got %s", ErrDigest, got))
	}
	return nil
}
