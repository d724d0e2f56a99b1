package ledger

import (
	"context"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/internal/oci"
)

// Run is a job while it is done. It is used by one goroutine.
type Run struct {
	Job      Job // as it was when the run began
	Manifest *oci.Content
	// Values is the context whose values belong to the job, as Add was given it. If nil,
	// there are none: a former process added the job, or it has run before.
	Values context.Context

	l     *Ledger
	e     *entry // nil if the ledger has no entry for the job
	moved map[string]time.Time
}

// Elsewhere returns a run of a job that does not come from this ledger: a Copier has
// carried it here. If the ledger has an entry for the job, which was handed over, the
// run is that entry's. [Run.End] must be called.
func (l *Ledger) Elsewhere(job Job) *Run {
	r := &Run{Job: job, l: l, moved: map[string]time.Time{}}
	l.mu.Lock()
	defer l.unlock()
	if e := l.entries[job.Key()]; e != nil {
		r.e, r.Manifest = e, e.man
	} else {
		r.Manifest = job.Content()
	}
	return r
}

// End notes what a run elsewhere came to.
func (r *Run) End(err error) {
	if r.e == nil {
		return
	}
	o := r.l.judged(r.e, err)
	r.l.mu.Lock()
	defer r.l.unlock()
	r.l.ended(r, o)
}

// TagsLeft returns the tags that have not moved yet, with those that came while the job
// runs.
func (r *Run) TagsLeft() []Tag {
	tags := r.Job.Tags
	if r.e != nil {
		r.l.mu.Lock()
		tags = mergeTags(tags, r.e.job.Tags)
		r.l.unlock()
	}
	return r.left(tags)
}

func (r *Run) left(tags []Tag) (left []Tag) {
	for _, t := range tags {
		seen, moved := r.moved[t.Name]
		if moved && !t.Seen.After(seen) {
			continue
		}
		t.EventDue = t.EventDue && !moved // what was sent is not due any more
		left = append(left, t)
	}
	return left
}

// Moved notes that a tag has moved, or need not.
func (r *Run) Moved(t Tag) { r.moved[t.Name] = t.Seen }

// HasMoved reports whether Moved was called.
func (r *Run) HasMoved() bool { return len(r.moved) > 0 }

// Owe writes down which of the tags will have an event, and returns when that survives a
// loss of power, as far as the store can do that. It comes before anything shows that
// the tags have moved.
func (r *Run) Owe(ctx context.Context, tags []Tag) {
	if r.e == nil {
		return
	}
	r.l.mu.Lock()
	due := slices.Clone(r.e.job.Tags)
	for i := range due {
		due[i].EventDue = due[i].EventDue || slices.ContainsFunc(tags, func(t Tag) bool { return t.Name == due[i].Name && t.EventDue })
	}
	r.e.job.Tags = due
	saved := r.l.save(r.Job.Key())
	r.l.unlock()
	saved.wait(ctx)
	r.l.sync(ctx)
}

// Completed notes that the manifest of the job is stored: indexes that waited for it
// are queued.
func (r *Run) Completed() {
	r.l.mu.Lock()
	defer r.l.unlock()
	r.l.completed(r.Job.Key())
}

// Contended reports whether other jobs wait for the slot of this one.
func (r *Run) Contended() bool {
	r.l.mu.Lock()
	defer r.l.unlock()
	return r.l.turns.waiting()
}

// Replaced reports whether the ledger has a later job for the same manifest: it was
// asked for again since this one was given up.
func (r *Run) Replaced() bool {
	r.l.mu.Lock()
	defer r.l.unlock()
	e := r.l.entries[r.Job.Key()]
	return e != nil && e.job.ID != r.Job.ID
}
