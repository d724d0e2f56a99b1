package ledger

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/share"
	"github.com/pullthrough/pullthrough/upstream"
)

// Copy is a copy job as it is at one moment.
type Copy struct {
	Job      Job
	Manifest *oci.Content
	State    State
	// Fate is what was last heard of a job that is Submitted: Pending, Stuck or Sending.
	Fate Fate
	Err  error // why it failed last; nil if it did not, or if a former process saw it
	// Blobs are those that it still needs; of an index, those of its images that are
	// being copied.
	Blobs []ocispec.Descriptor
}

// copy is the snapshot of an entry, without its blobs. l.mu is held.
func (e *entry) copy() Copy {
	c := Copy{Job: e.job, Manifest: e.man, State: e.state, Err: e.err}
	switch {
	case e.sending:
		c.Fate = Sending
	case !e.stuck.IsZero():
		c.Fate = Stuck
	}
	return c
}

// Copies returns the copy jobs of a repository, or all if it is empty, the oldest
// first.
func (l *Ledger) Copies(repository string) []Copy {
	l.mu.Lock()
	all := l.entries
	if repository != "" {
		all = l.repos[repository]
	}
	list := make([]Copy, 0, len(all))
	for _, e := range all {
		c := e.copy()
		c.Blobs = l.blobs(e)
		list = append(list, c)
	}
	l.unlock()
	slices.SortFunc(list, func(a, b Copy) int { return compareAge(a.Job.Created, a.Job.ID, b.Job.Created, b.Job.ID) })
	return list
}

// blobs are those that an entry still needs. l.mu is held.
func (l *Ledger) blobs(e *entry) []ocispec.Descriptor {
	if !e.man.Parsed.Index {
		return e.man.Parsed.Blobs()
	}
	var all []ocispec.Descriptor
	for _, d := range e.man.Parsed.Children() {
		if k := (Key{e.job.Repository, d.Digest}); l.coming(k) {
			all = append(all, l.entries[k].man.Parsed.Blobs()...)
		}
	}
	return all
}

// Len returns how many copy jobs are known.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.unlock()
	return len(l.entries)
}

// Slots returns how the slots of Config.AtOnce are used.
func (l *Ledger) Slots() share.Use {
	l.mu.Lock()
	defer l.unlock()
	u := share.Use{Held: l.turns.inUse(), Rules: maps.Clone(l.turns.running)}
	for _, e := range l.entries {
		if e.state == Queued {
			u.Waiting++
		}
	}
	return u
}

// Counts returns how often a copy failed and is tried again, and how many jobs found no
// room.
func (l *Ledger) Counts() (failed, dropped int64) { return l.failed.Load(), l.dropped.Load() }

// Find returns a manifest that is being copied from a source; nil if it is not, or if it
// is stored and only its tags move.
func (l *Ledger) Find(k Key, source upstream.Source) *oci.Content {
	l.mu.Lock()
	defer l.unlock()
	if e := l.entry(k, source); e != nil && e.job.Incomplete && !e.sending {
		return e.man
	}
	return nil
}

// Pending returns a hold on the job of a manifest; nil if there is none.
func (l *Ledger) Pending(k Key) *Handle {
	l.mu.Lock()
	defer l.unlock()
	if e := l.entries[k]; e != nil {
		return &Handle{l: l, e: e}
	}
	return nil
}

// Coming reports whether a manifest is being copied: its job needs neither a client nor
// [Ledger.Retry] to go on.
func (l *Ledger) Coming(k Key) bool {
	l.mu.Lock()
	defer l.unlock()
	return l.coming(k)
}

// Watches reports whether a job is Watching: only then is there a reason to call Asked.
func (l *Ledger) Watches() bool { return l.watching.Load() > 0 }

// Asked notes that a client asks for a blob, and whether the blob was stored then. Of
// the images that are Watching, one counts as pulled when it alone still lacks that
// layer, when all its layers were asked for, or, with Config.Alone, some time after its
// config was.
func (l *Ledger) Asked(repository string, d digest.Digest, stored bool) {
	lacking := 1
	if stored {
		lacking = 0
	}
	l.mu.Lock()
	defer l.unlock()
	var watched []*entry
	owners := 0
	for _, e := range l.repos[repository] {
		l.configAsked(e, d)
		if !slices.ContainsFunc(e.man.Parsed.Layers, func(o ocispec.Descriptor) bool { return o.Digest == d }) {
			continue
		}
		owners++
		if e.state == Watching {
			delete(e.unasked, d)
			watched = append(watched, e)
		}
	}
	for _, e := range watched {
		if owners == lacking || len(e.unasked) == 0 {
			l.enqueue(e, false)
			l.save(e.job.Key())
		}
	}
}

// configAsked notes that a client asks for the config of an image that is Watching. l.mu
// is held.
func (l *Ledger) configAsked(e *entry, d digest.Digest) {
	if e.state != Watching || !e.config.IsZero() || e.man.Parsed.Config == nil || e.man.Parsed.Config.Digest != d {
		return
	}
	e.config = time.Now()
	if due := e.config.Add(onlyChildTime); l.cfg.Alone != nil && due.Before(e.expires) {
		l.to(e, Watching, due)
	}
}

// Forget gives up the copy jobs of what is deleted: of a digest its job, of a tag that
// the tag moves.
func (l *Ledger) Forget(repository, reference string) {
	l.mu.Lock()
	defer l.unlock()
	for k, e := range l.repos[repository] {
		if k.Digest.String() == reference {
			l.remove(e, ErrForgotten)
			continue
		}
		tags := slices.DeleteFunc(slices.Clone(e.job.Tags), func(t Tag) bool { return t.Name == reference })
		if len(tags) < len(e.job.Tags) {
			e.job.Tags = tags
			l.save(k)
		}
	}
}

// ForgetRepository gives up all copy jobs of a repository that is deleted.
func (l *Ledger) ForgetRepository(repository string) {
	l.mu.Lock()
	defer l.unlock()
	for _, e := range l.repos[repository] {
		l.remove(e, ErrForgotten)
	}
}

// Retry lets the Paused, Parked and Stuck jobs run that match selects, with their failures
// forgotten, and returns how many there are. It waits for the records of a former
// process, or for ctx.
func (l *Ledger) Retry(ctx context.Context, match func(Job) bool) (n int, err error) {
	if err := l.Ready(ctx); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.unlock()
	for k, e := range l.entries {
		if (e.state == Parked || e.state == Paused || e.state == Submitted && !e.stuck.IsZero()) && match(e.job) {
			e.failures, e.err = 0, nil
			e.job.Attempts, e.job.Next, e.job.Error = 0, time.Time{}, ""
			l.enqueue(e, false)
			l.save(k)
			n++
		}
	}
	return n, nil
}

// Idle waits until no copy job is queued, runs or is handed over, or for ctx, whose
// cause it returns then. Jobs that are Sending do not count.
func (l *Ledger) Idle(ctx context.Context) error {
	if err := l.Ready(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.kick()
	l.unlock()
	select {
	case <-idle:
		return nil
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// noteIdle ends the waiting of Idle if nothing is queued, runs or is handed over. l.mu
// is held.
func (l *Ledger) noteIdle() {
	if l.idle == nil || l.turns.inUse() > 0 {
		return
	}
	for _, e := range l.entries {
		if e.state == Queued || e.state == Running || e.state == Submitted && !e.sending {
			return
		}
	}
	close(l.idle)
	l.idle = nil
}
