package ledger

import (
	"log/slog"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// handedOver notes that somebody else has the job of a run. l.mu is held.
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
	e.handed, e.looked, e.stuck = now, lookFirst, time.Time{}
	l.to(e, Submitted, now.Add(lookFirst))
}

// stuckFor is for how long whoever has the job of an entry has not gone on by itself.
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
		if fate != Stuck {
			e.stuck = time.Time{}
		} else if e.stuck.IsZero() {
			e.stuck = now
		}
		if r.id != "" && r.id != e.job.ID {
			e.job.ID = r.id
			l.save(e.job.Key())
		}
		e.looked = min(2*e.looked, lookLongest)
		l.to(e, Submitted, now.Add(e.looked))
	}
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
