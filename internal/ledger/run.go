package ledger

import (
	"context"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/recordset"
)

// Run is a job while it is done. It is used by one goroutine.
type Run struct {
	Job      Job // as it was when the run began
	Manifest *oci.Content
	// Values is the context whose values belong to the job, as Add was given it. If nil,
	// there are none: a former process added the job, or it has run before.
	Values context.Context
	// Resumed says that a former process had the job, and that this is its first run here.
	Resumed bool
	// Sent are the tags whose events the Worker has sent, with the empty one for the own
	// event of the job.
	Sent []string

	l     *Ledger
	e     *entry // nil if the ledger has no entry for the job
	moved map[string]time.Time

	given context.Context // ends when the job is given up; nil if the ledger does not run it

	id       string // see Known
	gaveBack bool   // see GiveBack
}

// Wanted returns a context that ends with ctx, and when the job is given up: with the cause
// [ErrForgotten] if what it copies was deleted or has another source now. It is for work that
// may be cut anywhere. stop must be called.
func (r *Run) Wanted(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if r.given == nil {
		return ctx, func() { cancel(nil) }
	}
	undo := context.AfterFunc(r.given, func() { cancel(context.Cause(r.given)) })
	return ctx, func() { undo(); cancel(nil) }
}

// Known notes the ID under which somebody else has the job.
func (r *Run) Known(id string) { r.id = id }

// Keep notes that this ledger's Worker does the job, and nobody else. With lost, somebody
// else had it, who is gone.
func (r *Run) Keep(lost bool) {
	r.Job.keep(lost)
	if r.e == nil {
		return
	}
	r.l.mu.Lock()
	defer r.l.unlock()
	if r.l.current(r.e) && (!r.e.job.Here || r.e.job.Handed) {
		r.e.job.keep(lost)
		r.l.save(r.e.job.Key())
	}
}

// GiveBack ends Keep: somebody else has the job.
func (r *Run) GiveBack() { r.gaveBack = true }

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

// HasRecord reports whether the job has a record.
func (r *Run) HasRecord() bool { return r.e != nil && r.l.records != nil }

// Hold waits until the record of the job is written, and keeps the ledger from writing
// it until Release: the Worker deletes or replaces it meanwhile, together with what it
// changes for the job. Without a record, the result is nil.
func (r *Run) Hold(ctx context.Context) *Held {
	if !r.HasRecord() {
		return nil
	}
	k := r.Job.Key()
	for {
		r.l.mu.Lock()
		saving := r.l.saving(k)
		if saving == nil {
			if r.l.held == nil {
				r.l.held = map[Key]bool{}
			}
			r.l.held[k] = true
			r.l.unlock()
			return &Held{r}
		}
		r.l.unlock()
		if saving.wait(ctx); ctx.Err() != nil {
			return nil
		}
	}
}

// Held is the record of a job that its Worker may change. It is used by one goroutine.
type Held struct{ r *Run }

// Deletion is the change that deletes the record.
func (h *Held) Deletion() recordset.Change {
	return recordset.Change{Kind: recordKind, Key: recordKey(h.r.Job.Key())}
}

// Now is the change that writes the record down as the job is now. It is false if the ledger
// does not have the job any more: it was forgotten meanwhile, and its record goes.
func (h *Held) Now() (recordset.Change, bool) {
	h.r.l.mu.Lock()
	job, current := h.r.e.job, h.r.l.current(h.r.e)
	h.r.l.unlock()
	if !current {
		return recordset.Change{}, false
	}
	c, err := h.r.l.records.Change(recordKey(job.Key()), job)
	return c, err == nil // it is plain data
}

// Owing is the change that notes in the record that the event of a tag is due.
func (h *Held) Owing(t Tag) (recordset.Change, error) {
	h.r.l.mu.Lock()
	job := h.r.e.job
	job.Tags = due(job.Tags, t)
	h.r.l.unlock()
	return h.r.l.records.Change(recordKey(job.Key()), job)
}

// OwingAll is the change that notes in the record that the job's own event is due,
// whichever cache stores the manifest.
func (h *Held) OwingAll() (recordset.Change, error) {
	h.r.l.mu.Lock()
	job := h.r.e.job
	job.Owed = true
	h.r.l.unlock()
	return h.r.l.records.Change(recordKey(job.Key()), job)
}

// OwesAll notes that the job's own event is due, whichever cache stores the manifest.
func (r *Run) OwesAll() {
	r.Job.Owed = true
	if r.e == nil {
		return
	}
	r.l.mu.Lock()
	defer r.l.unlock()
	r.e.job.Owed = true
}

// Owes notes that the event of a tag is due, as the change of Owing does in the record.
func (r *Run) Owes(t Tag) {
	if r.e == nil {
		return
	}
	r.l.mu.Lock()
	defer r.l.unlock()
	r.e.job.Tags = due(r.e.job.Tags, t)
}

// due returns the tags, of which one has an event that is due.
func due(tags []Tag, t Tag) []Tag {
	tags = slices.Clone(tags)
	for i := range tags {
		tags[i].EventDue = tags[i].EventDue || tags[i].Name == t.Name
	}
	return tags
}

// Release ends Hold. What the ledger was to write meanwhile is written now.
func (h *Held) Release() {
	h.r.l.mu.Lock()
	defer h.r.l.unlock()
	delete(h.r.l.held, h.r.Job.Key())
	if len(h.r.l.dirty) > 0 {
		h.r.l.startWriting()
	}
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
