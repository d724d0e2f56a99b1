package cache

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// Copier decides where copies run.
type Copier interface {
	// Submit takes a job over: sooner or later somebody must call [Cache.Copy]
	// with it, here or in another process with the same Store. An error makes
	// the cache submit it again later. Jobs are deduplicated before they come
	// here; it must be safe for concurrent use.
	Submit(ctx context.Context, job Job) error
}

// Job is the copy of one manifest. It is plain data.
type Job struct {
	ID         string          `json:"id"`
	Repository string          `json:"repository"`
	Source     upstream.Source `json:"source"`
	Digest     digest.Digest   `json:"digest"`
	MediaType  string          `json:"mediaType"`
	Manifest   []byte          `json:"manifest"`
	// Tags move when the manifest is complete.
	Tags []TagSighting `json:"tags,omitempty"`
	// Watch says that the copy waits until a client asks for a layer that only
	// this manifest still lacks: it is part of an index, and some clients fetch
	// the manifests of all platforms and the layers of one.
	Watch bool `json:"watch,omitempty"`
	// Incomplete says that the manifest was not complete when the job began, so
	// that its own event is due when it is.
	Incomplete bool      `json:"incomplete,omitempty"`
	Attempts   int       `json:"attempts,omitempty"`
	Created    time.Time `json:"created"`
}

// TagSighting is a tag seen to stand for a manifest.
type TagSighting struct {
	Tag   string    `json:"tag"`
	Asked time.Time `json:"asked"` // when the upstream was asked
}

const (
	retryFirst   = time.Second
	retryLongest = 10 * time.Minute
	retryFull    = 5 * time.Minute // it does not download again and again
	maxAttempts  = 20
	maxMissing   = 3
)

// jobState is where a job is.
type jobState string

const (
	jobQueued   jobState = "queued"
	jobRunning  jobState = "running"
	jobWaiting  jobState = "waiting"  // an index, for a child
	jobWatching jobState = "watching" // a child, for a layer to be asked for
	jobPaused   jobState = "paused"   // it failed and is tried again
)

// jobEntry is a job and what becomes of it. jobs.mu guards it.
type jobEntry struct {
	job     Job
	parsed  *oci.Manifest
	man     *manifest
	state   jobState
	unasked map[digest.Digest]bool
	last    error
	done    chan struct{} // closed when it is removed or has failed once
	timer   *time.Timer
}

// jobs is the copies that are known.
type jobs struct {
	e       *engine
	watched atomic.Int64 // so that a warm blob costs no lock

	mu      sync.Mutex
	entries map[content]*jobEntry
	repos   map[string]map[content]*jobEntry // the same by repository
	queue   []*jobEntry
	running int
	dirty   map[content]bool
	writing bool
	dropped bool // said once
}

func (j *jobs) init(e *engine) {
	j.e = e
	j.entries = map[content]*jobEntry{}
	j.repos = map[string]map[content]*jobEntry{}
	j.dirty = map[content]bool{}
}

func (j *jobs) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.entries {
		if t.timer != nil {
			t.timer.Stop()
		}
	}
}

// submit asks for the copy of a manifest that was just served, with the tags
// that were seen to stand for it.
func (e *engine) submit(p place, man *manifest) {
	tags := e.sightings.take(p, man.desc.Digest)
	_, child := e.children.Get(content{p.repo, man.desc.Digest})
	if len(tags) == 0 && e.complete(e.ctx, p, man.desc.Digest) != nil {
		return
	}
	e.jobs.add(p, man, Job{
		Repository: p.repo, Source: p.match.Source, Digest: man.desc.Digest, MediaType: man.desc.MediaType,
		Manifest: man.body, Tags: tags, Watch: child && len(tags) == 0,
	})
}

// sighted sees to tags that were seen to stand for a manifest that is complete
// here: they move, with nothing to copy.
func (e *engine) sighted(p place, man *manifest) {
	if _, ok := e.sightings.digests.Get(content{p.repo, man.desc.Digest}); ok && p.match != nil {
		e.submit(p, man)
	}
}

// add makes a job, or gives its tags to the one that is there.
func (j *jobs) add(p place, man *manifest, job Job) *jobEntry {
	e := j.e
	job.Incomplete = e.complete(e.ctx, p, job.Digest) == nil
	parsed := e.learn(p, man)
	k := content{job.Repository, job.Digest}
	var unasked map[digest.Digest]bool
	if job.Watch {
		unasked = e.lacking(p, parsed)
		job.Watch = len(unasked) > 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.entries[k]
	if t != nil && t.job.Source != job.Source {
		j.remove(k, t, errGone)
		t = nil
	}
	if t != nil {
		t.job.Tags = mergeTags(t.job.Tags, job.Tags)
		if t.state == jobWatching && !job.Watch {
			j.start(t)
		}
		j.save(k)
		return t
	}
	if len(j.entries) >= e.limits.Queue {
		if !j.dropped {
			e.log.Error("too many copies are known; new ones are dropped until the next pull", "limit", e.limits.Queue)
		}
		j.dropped = true
		e.stats.jobsDropped.Add(1)
		return nil
	}
	j.dropped = false
	if job.ID == "" {
		job.ID, job.Created = rand.Text(), time.Now().UTC()
	}
	t = &jobEntry{job: job, man: man, parsed: parsed, unasked: unasked, done: make(chan struct{})}
	j.entries[k] = t
	if j.repos[k.repo] == nil {
		j.repos[k.repo] = map[content]*jobEntry{}
	}
	j.repos[k.repo][k] = t
	if job.Watch {
		j.park(k, t, jobWatching)
	} else {
		j.start(t)
	}
	j.save(k)
	return t
}

// lacking returns the layers of a manifest that are not here.
func (e *engine) lacking(p place, m *oci.Manifest) map[digest.Digest]bool {
	lacks := false
	unasked := map[digest.Digest]bool{}
	for _, d := range m.Layers {
		unasked[d.Digest] = true
		if !e.linked(e.ctx, p, d.Digest) {
			lacks = true
		}
	}
	if !lacks {
		return nil
	}
	return unasked
}

func mergeTags(old, add []TagSighting) []TagSighting {
	tags := slices.Clone(old)
	for _, a := range add {
		i := slices.IndexFunc(tags, func(t TagSighting) bool { return t.Tag == a.Tag })
		switch {
		case i < 0:
			tags = append(tags, a)
		case a.Asked.After(tags[i].Asked):
			tags[i] = a
		}
	}
	return tags
}

// park lets a job wait. j.mu is held.
func (j *jobs) park(k content, t *jobEntry, state jobState) {
	t.state = state
	if state == jobWatching {
		j.watched.Add(1)
		return
	}
	left := time.Until(t.job.Created.Add(j.e.limits.Wait))
	t.timer = time.AfterFunc(left, func() { j.expire(k, t) })
}

// unpark ends a job's waiting. j.mu is held.
func (j *jobs) unpark(t *jobEntry) {
	if t.state == jobWatching {
		j.watched.Add(-1)
	}
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}

// expire gives up an index of which nobody pulled a platform.
func (j *jobs) expire(k content, t *jobEntry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.entries[k] == t && t.state == jobWaiting {
		j.e.log.Info("no platform of an index was pulled; its copy is given up", "repository", k.repo, "digest", k.digest.String())
		j.remove(k, t, nil)
	}
}

// start queues a job. j.mu is held.
func (j *jobs) start(t *jobEntry) {
	j.unpark(t)
	t.job.Watch = false
	t.state = jobQueued
	j.queue = append(j.queue, t)
	j.dispatch()
}

// dispatch runs what is queued. j.mu is held.
func (j *jobs) dispatch() {
	for len(j.queue) > 0 && j.running < j.e.limits.Jobs && j.e.ctx.Err() == nil {
		t := j.queue[0]
		j.queue = j.queue[1:]
		if t.state != jobQueued {
			continue
		}
		t.state = jobRunning
		j.running++
		j.e.wg.Go(func() { j.run(t) })
	}
}

// run gives a job to the copier.
func (j *jobs) run(t *jobEntry) {
	e := j.e
	j.mu.Lock()
	job := t.job
	j.mu.Unlock()
	if c := e.cfg.Copier; c != nil {
		err := c.Submit(e.ctx, job)
		j.mu.Lock()
		j.running--
		if err != nil {
			j.ended(t, err)
		} else if t.state == jobRunning { // look later whether it was done
			t.timer = time.AfterFunc(retryLongest, func() { j.retry(t) })
		}
		j.dispatch()
		j.mu.Unlock()
		return
	}
	err := e.copy(e.ctx, job)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running--
	j.ended(t, err)
	j.dispatch()
}

// ended decides what becomes of a job that ran. j.mu is held.
func (j *jobs) ended(t *jobEntry, err error) {
	k := content{t.job.Repository, t.job.Digest}
	if j.entries[k] != t || t.state != jobRunning {
		return
	}
	e := j.e
	if e.ctx.Err() != nil {
		return // the next process takes it up
	}
	t.last = err
	class, upstreams := upstream.ClassOf(err)
	pause := min(retryLongest, retryFirst<<min(t.job.Attempts, 16))
	switch {
	case err == nil:
		j.remove(k, t, nil)
		return
	case errors.Is(err, errWaiting):
		j.park(k, t, jobWaiting)
		e.wg.Go(func() { j.childIsThere(k, t) })
		return
	case errors.Is(err, errGone), errors.Is(err, errBadJob):
		e.log.Info("a copy is given up", "repository", k.repo, "digest", k.digest.String(), "err", err)
		j.remove(k, t, err)
		return
	case errors.Is(err, store.ErrFull), flight.Broken(err):
		pause = retryFull
	case upstreams && class == upstream.Limited:
		if u, ok := errors.AsType[*upstream.Error](err); ok {
			pause = max(pause, u.RetryAfter)
		}
	}
	t.job.Attempts++
	if t.job.Attempts >= maxAttempts || upstreams && class == upstream.NotFound && t.job.Attempts >= maxMissing {
		e.log.Error("a copy failed for good", "repository", k.repo, "digest", k.digest.String(), "attempts", t.job.Attempts, "err", err)
		j.remove(k, t, err)
		return
	}
	e.stats.jobsFailed.Add(1)
	e.log.Warn("a copy failed and is tried again", "repository", k.repo, "digest", k.digest.String(), "in", pause, "err", err)
	t.state = jobPaused
	t.timer = time.AfterFunc(pause+mathrand.N(pause/4), func() { j.retry(t) })
	j.save(k)
	t.fail()
}

// fail tells who waits that it did not work yet. j.mu is held.
func (t *jobEntry) fail() {
	close(t.done)
	t.done = make(chan struct{})
}

// retry queues a job again.
func (j *jobs) retry(t *jobEntry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := content{t.job.Repository, t.job.Digest}
	if j.entries[k] == t && (t.state == jobPaused || t.state == jobRunning) {
		j.start(t)
	}
}

// remove forgets a job. j.mu is held.
func (j *jobs) remove(k content, t *jobEntry, err error) {
	j.unpark(t)
	t.state = ""
	t.last = err
	delete(j.entries, k)
	delete(j.repos[k.repo], k)
	if len(j.repos[k.repo]) == 0 {
		delete(j.repos, k.repo)
	}
	j.save(k)
	close(t.done)
}
