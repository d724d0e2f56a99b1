package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/ociname"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/webhook"
)

// worker does copy jobs for the ledger: it fetches what a manifest names, links the
// manifest, moves its tags and sends its events, in this order, so that a tag never
// stands for something that cannot be served whole. Doing a job again does no harm. It
// is safe for concurrent use.
type worker struct {
	copier    Copier       // nil if copies run here
	teller    Teller       // the copier, if it is one
	told      *told        // jobs that were done here, if there is a teller
	events    webhook.Sink // nil if there are no events
	limits    Limits
	log       *slog.Logger
	origins   *origin.Origins
	local     *local
	fetcher   *fetcher
	admission *admission
	lists     *lists
	ledger    *ledger.Ledger
}

// Do does a job, or gives it to the Copier.
func (w *worker) Do(ctx context.Context, run *ledger.Run) error {
	ctx, stop := w.patiently(ctx, run)
	defer stop()
	err := w.doOrGive(ctx, run)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, ledger.ErrHandedOver) {
		return cause
	}
	return err
}

func (w *worker) doOrGive(ctx context.Context, run *ledger.Run) error {
	switch {
	case w.teller != nil:
		return w.doOrShare(ctx, run)
	case w.copier == nil:
		return w.DoHere(ctx, run)
	}
	if _, _, _, err := w.prepare(ctx, run); err != nil {
		return err
	}
	out, err := exported(run.Job)
	if err == nil {
		err = w.copier.Submit(ctx, out)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotTaken, err)
	}
	return ledger.ErrHandedOver
}

// DoHere does a job in this process, whatever the Copier says.
func (w *worker) DoHere(ctx context.Context, run *ledger.Run) error {
	defer w.local.claims.claim(run.Job.Repository, run.Manifest)()
	r, man, stored, err := w.prepare(ctx, run)
	if err != nil {
		return err
	}
	return w.copy(ctx, r, run, man, stored)
}

// prepare finds out whether a job can be done now, and whether its manifest is stored
// already, so that only tags and events are to come: [origin.ErrGone] if its rule is gone,
// [errBadJob] if it never can be done, [ledger.ErrWaiting] if it is an index none of
// whose images is stored.
func (w *worker) prepare(ctx context.Context, run *ledger.Run) (r origin.Repo, man *oci.Content, stored bool, err error) {
	job := run.Job
	r, err = w.origins.Still(ctx, job.Repository, job.Source)
	if err != nil {
		return r, nil, false, unusable(err)
	}
	r = r.Under(run.Values)
	man = run.Manifest.At(r.From)
	if w.local.manifest(ctx, r, job.Digest) != nil {
		return r, man, true, nil
	}
	if !ociname.ValidDigest(job.Digest.String()) || job.Digest.Algorithm().FromBytes(job.Manifest) != job.Digest {
		return r, man, false, fmt.Errorf("%w: its manifest is not %s", errBadJob, job.Digest)
	}
	if man.Parsed.Bad != nil {
		return r, man, false, fmt.Errorf("%w: %w", errBadJob, man.Parsed.Bad)
	}
	if !man.Parsed.Index {
		return r, man, false, nil
	}
	if err := w.addPlatforms(ctx, r, man.Parsed, job); err != nil {
		return r, man, false, err
	}
	if !w.indexReady(ctx, r, man.Parsed, job.Platforms) {
		return r, man, false, ledger.ErrWaiting
	}
	return r, man, false, nil
}

// unusable is what an error of Origins.Still is to a job: the rule is gone, or it cannot
// be used now.
func unusable(err error) error {
	if errors.Is(err, origin.ErrGone) {
		return err
	}
	return fmt.Errorf("%w: %w", errNoUpstream, err)
}

// copy does a job that is prepared.
func (w *worker) copy(ctx context.Context, r origin.Repo, run *ledger.Run, man *oci.Content, stored bool) error {
	if !stored && !man.Parsed.Index {
		if err := notDown(r); err != nil {
			return err
		}
		if run.Job.Depth > 0 { // a referrer, which nobody has pulled
			if err := r.Spared(); err != nil {
				return err
			}
		}
		w.local.note(r, man) // the job may come from another process
		wanted, stop := run.Wanted(ctx)
		err := w.fetcher.blobs(wanted, r, man.Parsed, run.Job.Created)
		if stop(); err != nil {
			return err
		}
	}
	if job := run.Job; job.Incomplete && r.Match.Rule.Referrers && job.Depth <= referrersDeep {
		if err := w.addReferrers(ctx, r, job); err != nil {
			return err
		}
	}
	return w.finish(ctx, r, run, man, stored)
}

// notDown holds back what would ask an upstream that is not to be asked now.
func notDown(r origin.Repo) error {
	if err, probe := r.Down(); err != nil && !probe {
		return err
	}
	return nil
}

// Look finds out whether a job that the Copier took was done, and sends the events that
// are due for it: the process that did it may have been killed before it sent them.
func (w *worker) Look(ctx context.Context, run *ledger.Run) (ledger.Fate, error) {
	if w.teller != nil {
		return w.track(ctx, run)
	}
	job := run.Job
	r, err := w.origins.Still(ctx, job.Repository, job.Source)
	if err != nil || w.local.manifest(ctx, r, job.Digest) == nil {
		return ledger.Pending, nil
	}
	var events []webhook.Event
	for _, t := range job.Tags {
		now, err := w.local.store.Tag(ctx, r.Name, t.Name)
		if err != nil || now.Source != r.From || now.Asked.Before(t.Seen) && now.Digest != job.Digest {
			return ledger.Pending, nil
		}
		w.local.tagMoved(r, t.Name, now.Asked)
		run.Moved(t)
		if now.Digest == job.Digest {
			events = append(events, pushEvent(job, run.Manifest, t.Name))
		}
	}
	if job.Incomplete {
		events = append(events, pushEvent(job, run.Manifest, ""))
	}
	if err := w.send(ctx, events); err != nil {
		w.log.Warn("the events of a copy were not taken over; they are sent again later", "repository", job.Repository, "digest", job.Digest.String(), "err", err)
		return ledger.Pending, err
	}
	return ledger.Finished, nil
}

// A running copy that brings less than slowCopy in slowTime while others wait gives its
// slot to them and goes on later.
const (
	slowCopy = 1 << 20
	slowTime = time.Minute
)

// patiently ends ctx when a job brings next to nothing while others wait.
func (w *worker) patiently(ctx context.Context, run *ledger.Run) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	before := int64(-1)
	var timer *time.Timer
	timer = time.AfterFunc(math.MaxInt64, func() {
		now := w.progress(ctx, run)
		if run.Contended() && before >= 0 && now-before < slowCopy {
			cancel(errYield)
			return
		}
		before = now
		timer.Reset(slowTime)
	})
	timer.Reset(slowTime) // not before the variable is set, which the function reads
	return ctx, func() { timer.Stop(); cancel(nil) }
}

// progress counts the bytes of a job's blobs that are here.
func (w *worker) progress(ctx context.Context, run *ledger.Run) (n int64) {
	for _, d := range run.Manifest.Parsed.Blobs() {
		n += w.fetcher.here(ctx, origin.Repo{Name: run.Job.Repository}, run.Job.Source, d)
	}
	return n
}
