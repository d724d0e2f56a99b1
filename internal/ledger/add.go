package ledger

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/upstream"
)

// Facts is what the caller of Add sees of a manifest.
type Facts struct {
	// Stored says that the manifest is here with all that it names.
	Stored bool
	// Needless says that no job need be made.
	Needless bool
	// Told are the tags whose events were sent, whatever the job says; the empty one stands
	// for the own event of the job.
	Told map[string]bool
	// Layers are the layers of the manifest, if one of them is not here. They are only
	// asked for if a job is OnDemand and not known yet.
	Layers map[digest.Digest]bool
}

// Handle is a caller's hold on a copy job.
type Handle struct {
	l     *Ledger
	e     *entry
	saved saved
}

// Add makes the copy job of a manifest known, or adds to the one that is. It waits for
// the records of a former process, or for ctx, whose cause it returns then. look is
// called without a lock if there is no job yet, and again if the manifest changed
// meanwhile; with layers, it must fill in Facts.Layers. The Handle is nil if the job is
// needless. [ErrTooMany] if there is no room.
//
// The caller sets Repository and Source of the job and what is special about it: Tags,
// Platforms, Request, Depth, OnDemand; of a job that comes from another ledger also Here,
// ID, Created, and, if it is Owed, Incomplete. values is the context of the request that the job
// comes from, for [Run.Values]; it may be nil.
func (l *Ledger) Add(ctx, values context.Context, man *oci.Content, job Job, look func(layers bool) Facts) (*Handle, error) {
	if err := l.Ready(ctx); err != nil {
		return nil, err
	}
	job.Digest, job.MediaType, job.Manifest = man.Digest, man.MediaType, man.Body
	k := job.Key()
	var f Facts
	l.mu.Lock()
	defer l.unlock()
	for l.entry(k, job.Source) == nil {
		was, _ := l.changed.Get(k)
		l.unlock()
		f = look(job.OnDemand)
		l.mu.Lock()
		if now, _ := l.changed.Get(k); now != was || l.entry(k, job.Source) != nil {
			continue
		}
		if f.Needless {
			return nil, nil
		}
		break
	}
	return l.add(job, man, f, values)
}

// entry returns the entry of a manifest from a source; nil if there is none. l.mu is
// held.
func (l *Ledger) entry(k Key, source upstream.Source) *entry {
	if e := l.entries[k]; e != nil && e.job.Source == source {
		return e
	}
	return nil
}

// Changed returns a number that changes when a manifest becomes stored or its job ends
// here: what a caller saw of the manifest in the store holds as long as the number is the
// same.
func (l *Ledger) Changed(k Key) uint64 {
	n, _ := l.changed.Get(k)
	return n
}

// add enters or merges a job. l.mu is held.
func (l *Ledger) add(job Job, man *oci.Content, f Facts, values context.Context) (*Handle, error) {
	k := job.Key()
	e := l.entries[k]
	if e != nil && e.job.Source != job.Source {
		l.remove(e, ErrForgotten)
		e = nil
	}
	if e != nil {
		changed := e.job.merge(job)
		if l.wanted(e, job, changed) {
			l.enqueue(e, false)
			changed = true
		}
		if !changed {
			return &Handle{l, e, l.saving(k)}, nil
		}
		return &Handle{l, e, l.save(k)}, nil
	}
	if !l.room(job.Source.Rule, man.Cost()) {
		return nil, ErrTooMany
	}
	if job.OnDemand { // and not if all its layers are here
		job.OnDemand = len(f.Layers) > 0
	}
	job.told(f.Told)
	job.Incomplete = job.Incomplete || !f.Stored
	if job.ID == "" {
		job.ID, job.Created = rand.Text(), time.Now().UTC()
	}
	e = &entry{job: job, man: man, unasked: f.Layers, values: values}
	l.insert(e)
	return &Handle{l, e, l.save(k)}, nil
}

// wanted reports whether a further request lets an entry run that does not. l.mu is
// held.
func (l *Ledger) wanted(e *entry, job Job, changed bool) bool {
	switch e.state {
	case Watching:
		return !job.OnDemand
	case Parked: // somebody wants it: one more try
		return time.Since(e.job.Next) > 0
	case Waiting: // there may be more to wait for
		return changed && len(job.Platforms) > 0
	case Submitted:
		return e.job.Here || l.cfg.Tracked && (changed || e.stuckFor() > parkedPause)
	}
	return false
}

// insert enters a copy job in the state that the job says. l.mu is held.
func (l *Ledger) insert(e *entry) {
	k, now := e.job.Key(), time.Now()
	e.attempt, e.index = newAttempt(), -1
	l.entries[k] = e
	if l.repos[k.Repository] == nil {
		l.repos[k.Repository] = map[Key]*entry{}
	}
	l.repos[k.Repository][k] = e
	l.hold(e, 1)
	switch least := now.Add(waitLeast); {
	case e.job.Parked:
		l.to(e, Parked, later(e.job.Next.Add(parkedLongest), least))
	case e.job.OnDemand:
		e.expires = later(e.job.Created.Add(l.cfg.Wait), least)
		l.to(e, Watching, e.expires)
	case e.job.Handed && l.cfg.Tracked:
		l.submitted(e, now)
	case e.job.Next.After(now): // a former process had it fail
		l.to(e, Paused, e.job.Next)
	default:
		l.enqueue(e, false)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// remove takes an entry out, and tells its run if it runs. Indexes that wait for what was
// given up have to look again. l.mu is held.
func (l *Ledger) remove(e *entry, err error) {
	k := e.job.Key()
	l.to(e, "", time.Time{})
	delete(l.entries, k)
	delete(l.repos[k.Repository], k)
	if len(l.repos[k.Repository]) == 0 {
		delete(l.repos, k.Repository)
	}
	l.hold(e, -1)
	l.change(k)
	l.save(k)
	e.attempt.end(err)
	if e.giveUp != nil {
		e.giveUp(err)
	}
	if err != nil {
		l.wakeIndexes(k)
	}
}

// ID returns the ID of the job.
func (h *Handle) ID() string {
	h.l.mu.Lock()
	defer h.l.unlock()
	return h.e.job.ID
}

// Recorded waits until the job is recorded, so that a crash does not lose it, or until
// ctx ends.
func (h *Handle) Recorded(ctx context.Context) { h.saved.wait(ctx) }

// Wait waits until the job has ended or failed, and returns why it failed. With try, a
// parked job runs first.
func (h *Handle) Wait(ctx context.Context, try bool) error {
	l, e := h.l, h.e
	l.mu.Lock()
	if try && e.state == Parked {
		l.enqueue(e, false)
		l.save(e.job.Key())
	}
	a, done := e.attempt, e.sending
	l.unlock()
	if done {
		return nil
	}
	select {
	case <-a.ended:
		return a.err
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
