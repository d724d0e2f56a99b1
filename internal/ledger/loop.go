package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	lookFirst     = 100 * time.Millisecond // after a job was handed over, until the first look
	lookLongest   = 15 * time.Second       // between two looks
	lookSilent    = time.Second            // between two looks at what cannot be found out
	lookSending   = 2 * time.Minute        // between two looks at a job that is Sending
	lostSending   = 2 * time.Minute        // that the holder of the events of such a job may be away
	handOver      = 10 * time.Minute       // until a job that is not done is handed over again
	parkedPause   = 10 * time.Minute       // until a further pull tries a parked job
	parkedLongest = 7 * 24 * time.Hour     // until a parked job is given up
	waitLeast     = time.Minute            // that a job waits, however old it is
	onlyChildTime = time.Minute            // see Config.Alone
)

// loop acts on time until the ledger is closed. In this order:
//  1. what a former process left is taken up;
//  2. entries whose time has come are acted on;
//  3. what is queued runs, as far as there are slots.
func (l *Ledger) loop() {
	l.load()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		l.mu.Lock()
		now := time.Now()
		for len(l.timed) > 0 && !l.timed[0].due.After(now) {
			l.act(l.timed[0], now)
		}
		for e := l.turns.next(l.cfg.AtOnce, len(l.rules) <= 1); e != nil && !l.closed; e = l.turns.next(l.cfg.AtOnce, len(l.rules) <= 1) {
			l.start(e)
		}
		l.noteIdle()
		pause := time.Hour
		if len(l.timed) > 0 {
			pause = time.Until(l.timed[0].due)
		}
		l.unlock()
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-l.wake:
		case <-l.ctx.Done():
			return
		}
	}
}

// act does what an entry's state asks for when its time has come. l.mu is held.
func (l *Ledger) act(e *entry, now time.Time) {
	about := []any{"repository", e.job.Repository, "digest", e.job.Digest.String()}
	switch {
	case e.state == Paused:
		l.enqueue(e, false)
	case e.state == Submitted:
		l.to(e, Submitted, time.Time{})
		l.spawn(func() { l.look(e) })
	case e.state == Watching && now.Before(e.expires):
		l.to(e, Watching, e.expires)
		job, asked := e.job, e.config
		l.spawn(func() {
			if l.cfg.Alone(l.ctx, job, asked) {
				l.asked(e)
			}
		})
	case e.state == Watching: // no client asked for a layer of the image
		l.remove(e, nil)
	case e.state == Waiting && l.imageComes(e): // the upstream or the disk takes its time
		l.to(e, Waiting, now.Add(l.cfg.Wait))
	case e.state == Waiting:
		l.log(slog.LevelInfo, "no platform of an index was pulled in time; its copy job is given up", about...)
		l.remove(e, nil)
		l.wakeIndexes(e.job.Key())
	case e.state == Parked:
		l.log(slog.LevelInfo, "a copy job that was parked for a week is given up", append(about, "err", e.job.Error)...)
		l.remove(e, nil)
		l.wakeIndexes(e.job.Key())
	}
}

// asked lets a Watching entry run, since a client wants the image.
func (l *Ledger) asked(e *entry) {
	l.mu.Lock()
	defer l.unlock()
	if l.current(e) && e.state == Watching {
		l.enqueue(e, false)
		l.save(e.job.Key())
	}
}

// current reports whether an entry was not removed. l.mu is held.
func (l *Ledger) current(e *entry) bool { return l.entries[e.job.Key()] == e }

// enqueue lets an entry run when it is its turn, or before others. l.mu is held.
func (l *Ledger) enqueue(e *entry, first bool) {
	e.job.OnDemand, e.job.Parked = false, false
	l.to(e, Queued, time.Time{})
	l.turns.add(e, first)
}

// start runs an entry. l.mu is held.
func (l *Ledger) start(e *entry) {
	l.to(e, Running, time.Time{})
	e.began = l.changes
	rule := e.job.Source.Rule
	l.log(slog.LevelDebug, "a copy begins", "repository", e.job.Repository, "digest", e.job.Digest.String(), "rule", rule)
	l.turns.took(rule)
	r := &Run{Job: e.job, Manifest: e.man, Values: e.values, Resumed: e.resumed, l: l, e: e, moved: map[string]time.Time{}}
	e.resumed = false
	e.values = nil // a job that waits for long does not keep a request in memory
	given, giveUp := context.WithCancelCause(l.ctx)
	r.given, e.giveUp = given, giveUp
	l.spawn(func() {
		defer giveUp(nil)
		o := l.judged(e, l.cfg.Worker.Do(l.ctx, r))
		l.mu.Lock()
		defer l.unlock()
		l.turns.gave(rule)
		l.kick()
		l.ended(r, o)
	})
}

// outcome is what a run came to.
type outcome struct {
	err                 error
	handedOver, waiting bool
	text                string
	verdict             Verdict
}

// judged looks at the error of a run before l.mu is held: the methods of an error may be
// an embedder's code.
func (l *Ledger) judged(e *entry, err error) outcome {
	switch {
	case err == nil:
		return outcome{}
	case errors.Is(err, ErrHandedOver):
		return outcome{err: err, handedOver: true}
	case errors.Is(err, ErrWaiting):
		return outcome{err: err, waiting: true}
	}
	l.mu.Lock()
	job, failures := e.job, e.failures
	l.unlock()
	return outcome{err: err, text: err.Error(), verdict: l.cfg.Worker.Judge(job, failures, err)}
}

// ended decides what becomes of an entry that ran, here or elsewhere. l.mu is held.
func (l *Ledger) ended(r *Run, o outcome) {
	e := r.e
	if !l.current(e) || l.closed || e.state != Running && e.state != Submitted {
		return // it was forgotten, the next process takes it up, or it ended meanwhile
	}
	switch {
	case o.handedOver && e.state != Running:
	case o.handedOver:
		l.handedOver(r)
	case o.err == nil && len(r.left(e.job.Tags)) > 0: // a tag came after the Worker's last look
		e.job.Tags, e.job.Incomplete = r.left(e.job.Tags), false
		e.job.ID = rand.Text() // its events were sent: further ones are others
		e.job.Handed, e.job.Owed = false, false
		l.enqueue(e, false)
		l.save(e.job.Key())
	case o.err == nil && e.job.Owed && !r.Job.Owed: // so it is since the Worker's last look
		l.enqueue(e, false)
	case o.err == nil:
		l.full = false
		l.log(slog.LevelDebug, "a copy is done", "repository", e.job.Repository, "digest", e.job.Digest.String(), "rule", e.job.Source.Rule)
		l.remove(e, nil)
	case o.waiting && (l.imageChanged(e) || !slices.Equal(r.Job.Platforms, e.job.Platforms)):
		l.enqueue(e, false) // what it saw may not be true any more
	case o.waiting:
		left := max(time.Until(e.job.Created.Add(l.cfg.Wait)), waitLeast)
		l.to(e, Waiting, time.Now().Add(left))
	default:
		l.fail(e, o)
	}
}

// fail decides what comes after a failure. l.mu is held.
func (l *Ledger) fail(e *entry, o outcome) {
	k, err, v := e.job.Key(), o.err, o.verdict
	about := []any{"repository", k.Repository, "digest", k.Digest.String(), "rule", e.job.Source.Rule, "err", err}
	if v.GiveUp {
		l.log(slog.LevelInfo, "a copy job is given up", about...)
		l.remove(e, err)
		return
	}
	e.failures++
	e.err, e.job.Error = err, o.text
	if v.Own {
		e.job.Attempts++
	}
	about = append(about, "attempts", e.job.Attempts)
	l.failed.Add(1)
	now := time.Now()
	if v.Park {
		e.job.Parked, e.job.Next = true, now.Add(parkedPause).UTC()
		l.to(e, Parked, now.Add(parkedLongest))
		l.log(slog.LevelError, "a copy failed too often; its job is parked until somebody pulls it, or Retry", about...)
		l.change(k)
		l.wakeIndexes(k)
	} else {
		pause := v.Pause + mathrand.N(v.Pause/4+1)
		e.job.Next = now.Add(pause).UTC()
		l.to(e, Paused, now.Add(pause))
		l.log(l.level(v), "a copy failed and is tried again", append(about, "in", pause.Round(time.Millisecond))...)
	}
	e.attempt.end(err)
	e.attempt = newAttempt()
	if c := e.copy(); v.Park && l.cfg.Parked != nil {
		l.notes = append(l.notes, func() { l.cfg.Parked(c) })
	}
	l.save(k)
}

// level is how loud a failure is. l.mu is held.
func (l *Ledger) level(v Verdict) slog.Level {
	if !v.Full {
		return slog.LevelWarn
	}
	if l.full {
		return slog.LevelDebug
	}
	l.full = true
	return slog.LevelError
}

// change numbers a change of a manifest. l.mu is held.
func (l *Ledger) change(k Key) {
	l.changes++
	l.changed.Put(k, l.changes, 1)
}

// completed notes that a manifest is stored, and queues the indexes that wait for it.
// l.mu is held.
func (l *Ledger) completed(k Key) {
	l.change(k)
	l.wakeIndexes(k)
}

// wakeIndexes queues the indexes that wait and name a manifest, ahead of others. l.mu
// is held.
func (l *Ledger) wakeIndexes(k Key) {
	for _, e := range l.repos[k.Repository] {
		if e.state == Waiting && e.man.Parsed.Names(k.Digest) {
			l.enqueue(e, true)
		}
	}
}

// imageChanged reports whether a manifest that an index names has changed since the
// index began to run. l.mu is held.
func (l *Ledger) imageChanged(e *entry) bool {
	if l.changes-e.began > changedMost/2 {
		return true // changed may have forgotten it
	}
	return slices.ContainsFunc(e.man.Parsed.Children(), func(d ocispec.Descriptor) bool {
		n, ok := l.changed.Get(Key{e.job.Repository, d.Digest})
		return ok && n > e.began
	})
}

// imageComes reports whether a manifest that an index names is being copied. l.mu is
// held.
func (l *Ledger) imageComes(e *entry) bool {
	return slices.ContainsFunc(e.man.Parsed.Children(), func(d ocispec.Descriptor) bool {
		return l.coming(Key{e.job.Repository, d.Digest})
	})
}

// coming reports whether a manifest is being copied. l.mu is held.
func (l *Ledger) coming(k Key) bool {
	e := l.entries[k]
	return e != nil && e.live()
}
