package ledger

import (
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// handedOver notes that somebody else, the holder, has the job of a run. l.mu is held.
func (l *Ledger) handedOver(r *Run) {
	e, now := r.e, time.Now()
	if !l.cfg.Tracked {
		l.submitted(e, now)
		return
	}
	if e.job.Here && !r.gaveBack || e.job.asks(r.Job) { // that came meanwhile
		l.enqueue(e, false)
		return
	}
	e.job.Handed, e.job.Here = true, false
	if r.id != "" {
		e.job.ID = r.id
	}
	l.submitted(e, now)
	l.save(e.job.Key())
}

// submitted waits for somebody else who has the job of an entry. l.mu is held.
func (l *Ledger) submitted(e *entry, now time.Time) {
	e.handed, e.looked, e.stuck, e.sending = now, lookFirst, time.Time{}, false
	l.to(e, Submitted, now.Add(lookFirst))
}

// stuckFor is for how long the holder of an entry's job has not gone on by itself.
func (e *entry) stuckFor() time.Duration {
	if e.stuck.IsZero() {
		return 0
	}
	return time.Since(e.stuck)
}

// look finds out what became of a job that somebody else has, and plans the next look.
func (l *Ledger) look(e *entry) {
	l.mu.Lock()
	r := &Run{Job: e.job, Manifest: e.man, l: l, e: e, moved: map[string]time.Time{}}
	l.unlock()
	fate, err := l.cfg.Worker.Look(l.ctx, r)
	l.mu.Lock()
	defer l.unlock()
	if !l.current(e) || e.state != Submitted {
		return
	}
	switch now := time.Now(); {
	case err == nil && fate == Sending:
		l.sending(e, r, now)
	case e.sending && l.silent(e, err != nil, fate, now):
	case err != nil && l.cfg.Tracked:
		l.to(e, Submitted, now.Add(lookSilent))
	case err == nil && fate == Finished:
		l.ended(r, outcome{})
		l.completed(e.job.Key())
	case err == nil && fate == Deleted:
		l.remove(e, ErrForgotten)
	case err == nil && fate == Lost:
		l.lost(e)
	case !l.cfg.Tracked && now.Sub(e.handed) > handOver:
		l.enqueue(e, false)
	default:
		e.sending = false
		if fate != Stuck {
			e.stuck = time.Time{}
		} else if e.stuck.IsZero() {
			e.stuck = now
		}
		l.known(e, r)
		e.looked = min(2*e.looked, lookLongest)
		l.to(e, Submitted, now.Add(e.looked))
	}
}

// known notes the ID that a job has where it is. l.mu is held.
func (l *Ledger) known(e *entry, r *Run) {
	if r.id != "" && r.id != e.job.ID {
		e.job.ID = r.id
		l.save(e.job.Key())
	}
}

// sending notes that a job is done, with its events still to be delivered by its holder.
// Nobody waits for the job any more. It is kept, since its holder may be lost with the
// events, and looked at ever more seldom. l.mu is held.
func (l *Ledger) sending(e *entry, r *Run, now time.Time) {
	k := e.job.Key()
	if now.Sub(e.job.Created) > parkedLongest {
		l.log(slog.LevelInfo, "the events of a copy have waited elsewhere for a week; they are not watched any more",
			"repository", k.Repository, "digest", k.Digest.String(), "rule", e.job.Source.Rule)
		l.remove(e, nil)
		return
	}
	l.known(e, r)
	e.silent, e.stuck = time.Time{}, time.Time{}
	if !e.sending {
		e.sending = true
		e.attempt.end(nil)
		e.attempt = newAttempt()
		l.completed(k)
	}
	e.looked = min(2*e.looked, lookSending)
	l.to(e, Submitted, now.Add(e.looked+mathrand.N(e.looked/4+1)))
}

// silent plans the next look at a job that is Sending if nobody says so now, or if nobody
// can be asked: a holder that has its events in its records may come back with them. It reports
// false if that is over, or if the job is more than that. l.mu is held.
func (l *Ledger) silent(e *entry, unknown bool, fate Fate, now time.Time) bool {
	switch {
	case !unknown && fate != Lost:
		return false
	case e.silent.IsZero():
		e.silent = now
		l.to(e, Submitted, now.Add(lostSending+mathrand.N(lostSending/4)))
		return true
	case !unknown: // and so it was lostSending ago
		return false
	}
	l.to(e, Submitted, now.Add(lookLongest))
	return true
}

// lost hands a job over again that nobody has any more, with the events that are owed
// then. l.mu is held.
func (l *Ledger) lost(e *entry) {
	k := e.job.Key()
	about := []any{"repository", k.Repository, "digest", k.Digest.String(), "rule", e.job.Source.Rule}
	if time.Since(e.job.Created) > parkedLongest {
		l.log(slog.LevelWarn, "a copy job that somebody else had for a week is given up", about...)
		l.remove(e, nil)
		l.wakeIndexes(k)
		return
	}
	l.log(slog.LevelInfo, "nobody has a copy job any more that was handed over; it is handed over again", about...)
	e.job.lost()
	l.enqueue(e, false)
	l.save(k)
}

// Mine returns the job of a manifest from a source that this ledger's Worker is to do, and
// its state; false if there is none, or somebody else has it.
func (l *Ledger) Mine(k Key, source upstream.Source) (id string, state State, ok bool) {
	l.mu.Lock()
	defer l.unlock()
	e := l.entry(k, source)
	if e == nil || !e.job.Here || e.job.Handed {
		return "", "", false
	}
	return e.job.ID, e.state, true
}
