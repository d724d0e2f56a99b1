package cache

import (
	"context"
	"errors"
	"fmt"

	"github.com/pullthrough/pullthrough/internal/ledger"
)

// Teller is an optional ability of a [Copier], for several caches with one Store that run
// one another's jobs: [Cache.Accept] takes a job over, and the cache that runs a job sends
// its events, alone. A cache that gave a job away is a witness: it keeps a record of its
// own and follows the job with Track until the events are sent and, if the Sink is a
// [webhook.Waiter] such as a [webhook.Outbox], do not wait there any more. If nobody has the
// job any more, the witness gives it away again or runs it, with the events that may have
// been lost and with the same IDs. If the events waited, it does so two minutes later, since
// who has them on its disk may come back.
//
// So an event is lost only if the cache that ran the job is lost with its records before
// the event was sent, or delivered from a Waiter, and no other cache had given it the job,
// or had room for it until then; see [Limits]. An event may be sent twice, with one ID, if
// that cache is lost with its records before its witnesses heard that the events were sent,
// or comes back with events that a witness has sent meanwhile.
type Teller interface {
	Copier
	// Give is called instead of Submit. It returns the ID under which the job is known
	// where it was taken; an empty one if it cannot be told whether the job was taken, which
	// Track finds out. [ErrHere] says that the job is to run in this cache. An error
	// that wraps [ErrDeleted] ends the job; after any other it is given again later.
	Give(ctx context.Context, job Job) (id string, err error)
	// Track tells what became of a job, which has the ID that Give returned. An error means
	// that this cannot be told now: the cache that has the job does not answer and may come back.
	// It asks other caches than this one.
	Track(ctx context.Context, job Job) (JobStatus, error)
}

// ErrHere is what Give of a [Teller] returns for a job that is to run in the cache that
// gives it.
var ErrHere = errors.New("cache: the job is to run here")

// JobState is what a cache knows of a job that another one asks about.
type JobState string

// The states of a job.
const (
	JobUnknown JobState = ""       // this cache has nothing to do with it
	JobComing  JobState = "coming" // this cache runs it, or will
	JobParked  JobState = "parked" // this cache has it; it failed too often, see CopyParked
	// JobSending says that the job is done, and that its events wait in the Sink of this
	// cache, a [webhook.Waiter], for their receivers.
	JobSending JobState = "sending"
	JobTold    JobState = "told" // it is done, and its events are sent
	// JobDeleted says that what the job copies was deleted after the job was made.
	JobDeleted JobState = "deleted"
)

// JobStatus is what became of a job.
type JobStatus struct {
	State JobState `json:"state"`
	// ID is the one that the job has now where it is. It is empty if that is not known.
	ID string `json:"id,omitempty"`
}

// doOrShare does a job, or gives it to another cache. What a former process had is asked
// about first: another cache may have taken it over meanwhile.
func (w *worker) doOrShare(ctx context.Context, run *ledger.Run) error {
	if run.Job.Here {
		return w.doIfNobody(ctx, run)
	}
	if _, _, _, err := w.prepare(ctx, run); err != nil {
		return err
	}
	out, err := exported(run.Job)
	id := ""
	if err == nil {
		id, err = w.teller.Give(ctx, out)
	}
	switch {
	case errors.Is(err, ErrHere):
		run.Keep(false)
		return w.doAndTell(ctx, run)
	case err != nil:
		return fmt.Errorf("%w: %w", errNotTaken, err)
	}
	run.Known(id)
	return ledger.ErrHandedOver
}

// doAndTell does a job here and remembers that, for its witnesses.
func (w *worker) doAndTell(ctx context.Context, run *ledger.Run) error {
	err := w.DoHere(ctx, run)
	if err == nil {
		w.told.note(ctx, run)
	}
	return err
}

// doIfNobody does a job that is to run here, unless another cache has it: one that took it
// over from a former process, or one that this cache gave it to before a third one gave it
// to this one.
func (w *worker) doIfNobody(ctx context.Context, run *ledger.Run) error {
	job := run.Job
	if run.Resumed && w.told.has(ctx, job.Key(), job.ID) { // its record is still there
		for _, t := range job.Tags {
			run.Moved(t)
		}
		return nil
	}
	if run.Resumed || job.Handed {
		out, err := question(job)
		if err != nil {
			return err
		}
		at, err := w.teller.Track(ctx, out)
		if err == nil && at.State == JobDeleted {
			return ErrDeleted
		}
		if err != nil && job.Handed || err == nil && at.State != JobUnknown {
			run.GiveBack()
			return ledger.ErrHandedOver
		}
		run.Keep(job.Handed)
	}
	return w.doAndTell(ctx, run)
}

// question is a job that is only asked about: its manifest is not needed for that.
func question(job ledger.Job) (Job, error) {
	job.Manifest = nil
	return exported(job)
}

// movedElsewhere notes that another cache has done a job: its manifest is stored, and what is
// remembered of its tags is old.
func (w *worker) movedElsewhere(ctx context.Context, job ledger.Job) {
	if r, err := w.origins.Still(ctx, job.Repository, job.Source); err == nil {
		w.local.arrived(r, job.Digest) // an index may wait for it
		for _, t := range job.Tags {
			w.local.tagMoved(r, t.Name, t.Seen)
		}
	}
}

// track finds out what became of a job that another cache has, which sends its events.
func (w *worker) track(ctx context.Context, run *ledger.Run) (ledger.Fate, error) {
	out, err := question(run.Job)
	if err != nil {
		return ledger.Pending, err
	}
	at, err := w.teller.Track(ctx, out)
	if err != nil {
		return ledger.Pending, err
	}
	run.Known(at.ID)
	switch at.State {
	case JobComing:
		return ledger.Pending, nil
	case JobParked:
		return ledger.Stuck, nil
	case JobDeleted:
		return ledger.Deleted, nil
	case JobSending:
		w.movedElsewhere(ctx, run.Job)
		return ledger.Sending, nil
	case JobTold:
		w.movedElsewhere(ctx, run.Job)
		for _, t := range run.Job.Tags {
			run.Moved(t)
		}
		return ledger.Finished, nil
	}
	return ledger.Lost, nil
}
