package cache

import (
	"context"
	"errors"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/backoff"
	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

const (
	pauseFirst     = time.Second
	pauseLongest   = 10 * time.Minute
	pauseFull      = 10 * time.Second   // the first one, so that it does not download again and again
	pauseAway      = time.Minute        // the longest while a store does not answer
	troubleLongest = 7 * 24 * time.Hour // of an upstream or a full store, before a copy job is parked for it
	maxMissing     = 3                  // times that the upstream is asked for what it does not have
)

var (
	// errBadJob reports a job that can never be done.
	errBadJob = errors.New("cache: the job cannot be done")
	// errNoUpstream reports a rule that cannot be found or opened now.
	errNoUpstream = errors.New("cache: the rule or its source cannot be read now")
	// errNotTaken reports a job that its Copier does not take.
	errNotTaken = errors.New("cache: the Copier did not take the job")
	// errNotSent reports an event that Cache.Events does not take.
	errNotSent = errors.New("cache: the receiver of events did not take them over")
	// errYield reports a copy that gave its slot to others.
	errYield = errors.New("cache: the copy was slow and gave its slot to others")
)

// ErrTooManyCopies reports that [Limits.MaxJobs] copies are known already, so that
// another one could not be noted, or had to make room. It says nothing about the
// copy itself.
var ErrTooManyCopies = ledger.ErrTooMany

// Judge is the one table that says what a failure means for a copy job, after that many
// failures in a row. Trouble of the upstream's host, the credential, a sink or a full
// store is not the copy's own.
func (w *worker) Judge(job ledger.Job, failures int, err error) ledger.Verdict {
	class, known := upstream.ClassOf(err)
	later, unavailable := errors.AsType[*auth.UnavailableError](err)
	away := errors.Is(err, store.ErrUnavailable)
	v := ledger.Verdict{Pause: backoff.Backoff{First: pauseFirst, Longest: pauseLongest}.Pause(failures)}
	switch {
	case errors.Is(err, origin.ErrGone), errors.Is(err, ErrDeleted), errors.Is(err, errBadJob):
		return ledger.Verdict{GiveUp: true}
	case errors.Is(err, store.ErrFull):
		v.Full = true
		v.Pause = backoff.Backoff{First: pauseFull, Longest: pauseLongest / 2}.Pause(failures)
	case spares(err): // to look again costs nothing
		v.Pause = pauseLongest
	case flight.Broken(err):
		v.Own = true
		v.Pause = max(v.Pause, pauseFull)
	case unavailable:
		v.Pause = max(v.Pause, later.RetryAfter)
	case known && (class == upstream.Limited || class == upstream.Unreachable),
		errors.Is(err, origin.ErrBusy), errors.Is(err, context.Canceled),
		errors.Is(err, errNoUpstream), errors.Is(err, errNotTaken), errors.Is(err, errNotSent),
		errors.Is(err, ErrTooManyCopies), away, errors.Is(err, errShutdown), errors.Is(err, errYield):
	default:
		v.Own = true
	}
	if u, ok := errors.AsType[*upstream.Error](err); ok {
		v.Pause = max(v.Pause, u.RetryAfter)
	}
	if away { // to try again costs no download
		v.Pause = min(v.Pause, pauseAway)
	}
	if (known || unavailable || away || v.Full) && time.Since(job.Created) > troubleLongest { // no copy job lives for ever
		v.Park = true
	}
	if v.Own {
		n := job.Attempts + 1
		v.Park = v.Park || n >= w.limits.Attempts || known && class == upstream.NotFound && n >= maxMissing
	}
	return v
}
