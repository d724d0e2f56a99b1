package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

const (
	retryFirst     = time.Second
	retryLongest   = 10 * time.Minute
	retryFull      = 10 * time.Second   // at first: it does not download again and again
	troubleLongest = 7 * 24 * time.Hour // of an upstream or a full store, before a copy is parked for it
	parkedLongest  = 7 * 24 * time.Hour // before a parked copy is given up
	maxMissing     = 3                  // what the upstream does not have is asked for as often
	lookFirst      = 100 * time.Millisecond
	lookLongest    = 15 * time.Second
)

var (
	// errWaiting reports an index none of whose images is complete.
	errWaiting = errors.New("cache: the index waits for one of its images")
	// errBadJob reports a job that can never be done.
	errBadJob = errors.New("cache: the job cannot be done")
	// errNoPlace reports a rule that cannot be found or opened now.
	errNoPlace = errors.New("cache: the rule cannot be used")
	// errNotTaken reports a job that its Copier does not take.
	errNotTaken = errors.New("cache: the copier takes nothing")
	// errNotTold reports an event that Cache.Events does not take.
	errNotTold = errors.New("cache: the event is not taken over")
)

// ErrTooManyCopies reports that [Limits.Queue] copies are known already, so that
// another one could not be noted, or had to make room. It says nothing about the
// copy itself.
var ErrTooManyCopies = errors.New("cache: too many copies are known")

// run does a job, or gives it to the copier.
func (j *jobs) run(t *jobEntry) {
	e := j.e
	j.lock()
	job := t.job
	j.unlock()
	ctx, end := j.patiently(e.ctx, t)
	defer end()
	p, err := e.again(ctx, job.Repository, job.Source)
	if err != nil && !errors.Is(err, errGone) {
		err = fmt.Errorf("%w: %w", errNoPlace, err)
	}
	var w work
	if err == nil {
		w, err = e.ready(ctx, p, job, t.man)
	}
	var moved moves
	given := false
	switch c := e.cfg.Copier; {
	case err != nil:
	case c == nil:
		moved, err = e.copy(ctx, p, job, w)
	default:
		if err = c.Submit(ctx, job); err != nil {
			err = fmt.Errorf("%w: %w", errNotTaken, err)
		}
		given = err == nil
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	j.lock()
	defer j.unlock()
	if rule := job.Source.Rule; j.running[rule] > 1 {
		j.running[rule]--
	} else {
		delete(j.running, rule)
	}
	if given {
		j.submitted(t)
	} else {
		j.ended(t, moved, err)
	}
	j.dispatch()
}

// submitted notes that a Copier has a job, unless it was quicker than that. j.mu
// is held.
func (j *jobs) submitted(t *jobEntry) {
	if j.entries[t.key()] == t && t.state == jobRunning {
		t.state, t.given = jobSubmitted, time.Now()
		j.lookLater(t, lookFirst)
	}
}

// gate holds jobs back whose upstream is not to be asked just now.
func (e *engine) gate(p place) error {
	if err, due := e.trouble(p); err != nil && !due {
		return err
	}
	return nil
}

// lookLater looks whether somebody else has done a job. j.mu is held.
func (j *jobs) lookLater(t *jobEntry, in time.Duration) {
	t.timer = time.AfterFunc(in, func() { j.e.spawn(func() { j.look(t, in) }) })
}

// look sees whether a job that a Copier took is done; if it takes too long it is
// submitted again.
func (j *jobs) look(t *jobEntry, waited time.Duration) {
	j.lock()
	job := t.job
	j.unlock()
	moved, events := j.e.done(job, t.man)
	if moved != nil {
		if err := j.e.tell(j.e.ctx, events); err != nil {
			j.e.log.Warn("the events of a copy are not taken over and are sent later", "repository", job.Repository, "digest", job.Digest.String(), "err", err)
			moved = nil
		}
	}
	j.lock()
	defer j.unlock()
	switch {
	case j.entries[t.key()] != t || t.state != jobSubmitted:
	case moved != nil:
		k := t.key()
		j.ended(t, moved, nil)
		j.wake(k)
	case time.Since(t.given) > retryLongest:
		j.start(t)
	default:
		j.lookLater(t, min(2*waited, lookLongest))
	}
}

// done returns what a job has moved that ran elsewhere, nil if something is left
// of it, and the events that are due for it: whoever did it may have been killed
// before it sent them.
func (e *engine) done(job Job, man *manifest) (moves, []webhook.Event) {
	p, err := e.again(e.ctx, job.Repository, job.Source)
	if err != nil || e.complete(e.ctx, p, job.Digest) == nil {
		return nil, nil
	}
	moved := moves{}
	var events []webhook.Event
	for _, t := range job.Tags {
		now, err := e.store.Tag(e.ctx, p.repo, t.Tag)
		if err != nil || now.Source != p.source || now.Asked.Before(t.Asked) && now.Digest != job.Digest {
			return nil, nil
		}
		e.forget(tagKey{p.repo, t.Tag}, now.Asked)
		moved[t.Tag] = t.Asked
		if now.Digest == job.Digest {
			events = append(events, pushEvent(job, man, t.Tag))
		}
	}
	if job.Incomplete {
		events = append(events, pushEvent(job, man, ""))
	}
	return moved, events
}

// wake starts the indexes that may have waited for a manifest. j.mu is held.
func (j *jobs) wake(k content) {
	for _, t := range j.repos[k.repo] {
		if t.state == jobWaiting && t.parsed.Names(k.digest) {
			j.start(t)
		}
	}
}

// verdict is what a failure means for a job.
type verdict struct {
	drop  bool          // it is hopeless
	own   bool          // it counts as an attempt
	full  bool          // the store has no room
	park  bool          // it is not tried again by itself
	pause time.Duration // before the next try
}

// judge decides what a failure means. failures counts those in a row.
func (l Limits) judge(job Job, failures int, err error) verdict {
	class, told := upstream.ClassOf(err)
	later, lacking := errors.AsType[*auth.UnavailableError](err)
	v := verdict{pause: min(retryLongest, retryFirst<<min(failures, 16))}
	switch {
	case errors.Is(err, errGone), errors.Is(err, errBadJob):
		v.drop = true
		return v
	case errors.Is(err, store.ErrFull):
		v.full = true
		v.pause = min(retryLongest/2, retryFull<<min(failures, 16))
	case flight.Broken(err):
		v.own = true
		v.pause = max(v.pause, retryFull)
	case lacking:
		v.pause = max(v.pause, later.RetryAfter)
	case told && (class == upstream.Limited || class == upstream.Unreachable),
		errors.Is(err, flight.ErrBusy), errors.Is(err, context.Canceled),
		errors.Is(err, errNoPlace), errors.Is(err, errNotTaken), errors.Is(err, errNotTold),
		errors.Is(err, ErrTooManyCopies), errors.Is(err, errShutdown), errors.Is(err, errYield):
	default:
		v.own = true
	}
	if u, ok := errors.AsType[*upstream.Error](err); ok {
		v.pause = max(v.pause, u.RetryAfter)
	}
	if (told || lacking || v.full) && time.Since(job.Created) > troubleLongest { // no copy lives for ever
		v.park = true
	}
	if v.own {
		n := job.Attempts + 1
		v.park = v.park || n >= l.Attempts || told && class == upstream.NotFound && n >= maxMissing
	}
	return v
}

// ended decides what becomes of a job that ran. j.mu is held.
func (j *jobs) ended(t *jobEntry, moved moves, err error) {
	k := t.key()
	if j.entries[k] != t || t.state != jobRunning && t.state != jobSubmitted {
		return
	}
	e := j.e
	switch {
	case e.ctx.Err() != nil: // the next process takes it up
	case err == nil && !moved.all(t.job.Tags): // a tag came after its last look
		t.job.Tags, t.job.Incomplete = moved.left(t.job.Tags), false
		t.job.ID = rand.Text() // what it owed is told: further events are others
		j.start(t)
		j.save(k)
	case err == nil:
		j.full = false
		j.remove(k, t, nil)
	case errors.Is(err, errWaiting):
		j.unpark(t)
		j.park(k, t, jobWaiting)
		e.spawn(func() { j.childIsThere(k, t) })
	default:
		j.failed(k, t, err)
	}
}

// failed plans what comes after a failure. j.mu is held.
func (j *jobs) failed(k content, t *jobEntry, err error) {
	e := j.e
	v := e.limits.judge(t.job, t.failures, err)
	about := []any{"repository", k.repo, "digest", k.digest.String(), "rule", t.job.Source.Rule, "err", err}
	if v.drop {
		j.log(slog.LevelInfo, "a copy is given up", about...)
		j.remove(k, t, err)
		j.wake(k)
		return
	}
	j.unpark(t)
	t.failures++
	t.last, t.job.Error = err, err.Error()
	if v.own {
		t.job.Attempts++
	}
	about = append(about, "attempts", t.job.Attempts)
	e.stats.jobsFailed.Add(1)
	if v.park {
		t.state, t.job.Parked = jobParked, true
		t.job.Next = time.Now().Add(retryLongest).UTC()
		t.timer = time.AfterFunc(parkedLongest, func() { j.expire(k, t) })
		j.log(slog.LevelError, "a copy failed too often and is parked", about...)
		j.wake(k)
		if state := t.copyState(); e.cfg.Parked != nil {
			j.say(func() { e.cfg.Parked(state) })
		}
	} else {
		pause := v.pause + mathrand.N(v.pause/4)
		t.job.Next = time.Now().Add(pause).UTC()
		j.pause(t, pause)
		j.log(j.level(v), "a copy failed and is tried again", append(about, "in", pause.Round(time.Millisecond))...)
	}
	j.save(k)
	t.fail()
}

// level is how loud a failure is: of a full store the first line says it all.
func (j *jobs) level(v verdict) slog.Level {
	if !v.full {
		return slog.LevelWarn
	}
	if j.full {
		return slog.LevelDebug
	}
	j.full = true
	return slog.LevelError
}

// childIsThere looks whether a child became complete while its index was on its
// way to wait.
func (j *jobs) childIsThere(k content, t *jobEntry) {
	j.lock()
	job := t.job
	j.unlock()
	p, err := j.e.again(j.e.ctx, k.repo, job.Source)
	if err == nil && !j.e.indexReady(j.e.ctx, p, t.parsed, job.Platforms) {
		return
	} // with an error the job finds out what it is
	j.lock()
	defer j.unlock()
	if j.entries[k] == t && t.state == jobWaiting {
		j.start(t)
	}
}
