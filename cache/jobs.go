package cache

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/upstream"
)

const (
	// waitLeast is how long an index waits at least, however old its job is.
	waitLeast = time.Minute
	// pauseMost is more than any failure asks for: what waits longer was written
	// with another clock.
	pauseMost = 25 * time.Hour
)

// jobs is the copies that are known.
type jobs struct {
	e       *engine
	watched atomic.Int64  // so that a warm blob costs no lock
	loaded  chan struct{} // closed when the records of a former process are read
	resumed chan struct{} // closed when they were taken up, as far as they can be
	unread  error         // why the records could not be listed, once loaded is closed

	lastEnd *lru.Cache[content, uint64] // which end of a copy, counted by ends, was the last of a manifest

	mu      sync.Mutex
	ends    uint64
	entries map[content]*jobEntry
	repos   map[string]map[content]*jobEntry // the same by repository
	rules   map[string]*held                 // what each rule has of them
	former  map[content]Job                  // of a former process, not taken up yet
	bytes   int64                            // of the manifests
	queues  map[string][]*jobEntry           // what is queued, by rule
	running map[string]int                   // by rule
	serial  uint64                           // of the last that was queued
	records records
	said    []func() // logs and callbacks that wait until mu is free
	dropped bool     // said once
	full    bool     // said once
}

func (j *jobs) init(e *engine) {
	j.e = e
	j.loaded, j.resumed = make(chan struct{}), make(chan struct{})
	j.lastEnd = lru.New[content, uint64](64 << 10)
	j.entries = map[content]*jobEntry{}
	j.repos = map[string]map[content]*jobEntry{}
	j.rules = map[string]*held{}
	j.former = map[content]Job{}
	j.queues, j.running = map[string][]*jobEntry{}, map[string]int{}
	j.records.init(e)
}

func (j *jobs) lock() { j.mu.Lock() }

// unlock frees the lock and says what there is to say: the embedder's code may
// call back.
func (j *jobs) unlock() {
	said := j.said
	j.said = nil
	j.mu.Unlock()
	for _, say := range said {
		say()
	}
}

// say has something told when mu is free. j.mu is held.
func (j *jobs) say(f func()) { j.said = append(j.said, f) }

// log has a line written when mu is free. j.mu is held.
func (j *jobs) log(level slog.Level, msg string, args ...any) {
	j.say(func() { j.e.log.Log(context.WithoutCancel(j.e.ctx), level, msg, args...) })
}

func (j *jobs) close() {
	j.lock()
	defer j.unlock()
	for _, t := range j.entries {
		if t.timer != nil {
			t.timer.Stop()
		}
	}
}

// submit asks for the copy of a manifest that was just served, with the tags
// that were seen to stand for it. When it returns, a crash does not lose it.
func (e *engine) submit(p place, man *manifest) {
	tags := e.sightings.take(p, man.desc.Digest)
	_, child := e.children.Get(content{p.repo, man.desc.Digest})
	if len(tags) == 0 && e.complete(e.ctx, p, man.desc.Digest) != nil {
		return
	}
	if child && !e.read.has(p.readKey(man.desc.Digest)) {
		e.spawn(func() { e.keepRead(p, man) })
	}
	job := Job{Tags: tags, Platforms: p.platforms(), Watch: child && len(tags) == 0, Request: e.request(p.cause)}
	ctx, cancel := context.WithTimeout(e.ctx, recordWait)
	defer cancel()
	if !e.jobs.awaitRecords(ctx) { // a slow disk is no trouble of the client
		e.spawn(func() { e.jobs.add(p, man, job) })
		return
	}
	_, saved := e.jobs.add(p, man, job)
	saved.settle(ctx)
}

// sighted sees to tags that were seen to stand for a manifest that is complete
// here: they move, with nothing to copy.
func (e *engine) sighted(p place, man *manifest) {
	if _, ok := e.sightings.digests.Get(content{p.repo, man.desc.Digest}); ok && p.match != nil {
		e.submit(p, man)
	}
}

// add makes the job of a manifest, or gives its tags to the one that is there;
// nil if there are too many. What the job says of the manifest is filled in.
func (j *jobs) add(p place, man *manifest, job Job) (*jobEntry, saved) {
	j.awaitRecords(j.e.ctx)
	k := content{p.repo, man.desc.Digest}
	job.Repository, job.Source = p.repo, p.match.Source
	job.Digest, job.MediaType, job.Manifest = man.desc.Digest, man.desc.MediaType, man.body
	parsed, watch := man.parsed, job.Watch
	var unasked map[digest.Digest]bool
	for {
		was, _ := j.lastEnd.Get(k)
		job.Incomplete = j.e.complete(j.e.ctx, p, job.Digest) == nil
		fresh := !j.has(k, job.Source)
		if watch && fresh { // it is not looked for each time that it is read
			unasked = j.e.lacking(p, parsed)
			job.Watch = len(unasked) > 0
		}
		j.lock()
		t := j.entries[k]
		if now, _ := j.lastEnd.Get(k); now == was && (fresh || t != nil && t.job.Source == job.Source) {
			break
		}
		j.unlock() // a copy of it ended meanwhile: look again
	}
	defer j.unlock()
	if t := j.known(k, job); t != nil {
		if j.merge(t, job) {
			return t, j.save(k)
		}
		return t, j.saving(k)
	}
	if !j.room(job, man.cost()) {
		return nil, saved{}
	}
	if job.ID == "" {
		job.ID, job.Created = rand.Text(), time.Now().UTC()
	}
	j.inherit(k, &job)
	t := &jobEntry{job: job, man: man, parsed: parsed, unasked: unasked, done: make(chan struct{})}
	j.insert(k, t)
	j.begin(k, t)
	return t, j.save(k)
}

// has reports whether there is an entry of a manifest.
func (j *jobs) has(k content, source upstream.Source) bool {
	j.lock()
	defer j.unlock()
	t := j.entries[k]
	return t != nil && t.job.Source == source
}

// known returns the entry of a manifest; one of another source is given up.
// j.mu is held.
func (j *jobs) known(k content, job Job) *jobEntry {
	t := j.entries[k]
	if t != nil && t.job.Source != job.Source {
		j.remove(k, t, errGone)
		return nil
	}
	return t
}

// inherit makes a job the one that a former process had of the same manifest, so
// that its events keep their ids. j.mu is held.
func (j *jobs) inherit(k content, job *Job) {
	old, ok := j.former[k]
	if !ok {
		return
	}
	delete(j.former, k)
	if old.Source != job.Source {
		return
	}
	old.Tags = mergeTags(old.Tags, job.Tags)
	old.Depth = min(old.Depth, job.Depth)
	old.Platforms = oci.MergePlatforms(old.Platforms, job.Platforms)
	old.Watch = old.Watch && job.Watch
	old.Incomplete = old.Incomplete || job.Incomplete
	now := time.Now().UTC()
	if old.Created.After(now) { // the clock went back
		old.Created = now
	}
	if old.Next.After(now.Add(pauseMost)) {
		old.Next = now
	}
	*job = old
}

// merge gives what a further pull brings to a job that is there, and reports
// whether that is worth a write: that a tag was seen once more is not, since it
// is written before it moves. j.mu is held.
func (j *jobs) merge(t *jobEntry, job Job) (changed bool) {
	tags, platforms := len(t.job.Tags), t.job.Platforms
	t.job.Tags = mergeTags(t.job.Tags, job.Tags)
	t.job.Depth = min(t.job.Depth, job.Depth)
	t.job.Platforms = oci.MergePlatforms(t.job.Platforms, job.Platforms)
	changed = len(t.job.Tags) != tags || !slices.Equal(t.job.Platforms, platforms)
	if t.job.Request == nil {
		t.job.Request = job.Request
	}
	start := false
	switch t.state {
	case jobWatching:
		start = !job.Watch
	case jobParked: // somebody wants it: one more try
		start = time.Since(t.job.Next) > 0
	case jobWaiting:
		start = changed && len(job.Platforms) > 0 // there may be more to wait for
	}
	if start {
		j.start(t)
	}
	return changed || start
}

func (j *jobs) insert(k content, t *jobEntry) {
	j.entries[k] = t
	j.bytes += t.man.cost()
	h := j.rules[t.job.Source.Rule]
	if h == nil {
		h = &held{}
		j.rules[t.job.Source.Rule] = h
	}
	h.copies++
	h.bytes += t.man.cost()
	if j.repos[k.repo] == nil {
		j.repos[k.repo] = map[content]*jobEntry{}
	}
	j.repos[k.repo][k] = t
}

// begin puts a new entry where its job says that it is. j.mu is held.
func (j *jobs) begin(k content, t *jobEntry) {
	switch left := time.Until(t.job.Next); {
	case t.job.Parked:
		t.state = jobParked
		t.timer = time.AfterFunc(max(time.Until(t.job.Next.Add(parkedLongest)), waitLeast), func() { j.expire(k, t) })
	case t.job.Watch:
		j.park(k, t, jobWatching)
	case left > 0: // a former process had it fail
		j.pause(t, left)
	default:
		j.start(t)
	}
}

// park lets a job wait for others. j.mu is held.
func (j *jobs) park(k content, t *jobEntry, state jobState) {
	t.state = state
	if state == jobWatching {
		j.watched.Add(1)
	}
	left := max(time.Until(t.job.Created.Add(j.e.limits.Wait)), waitLeast)
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

// expire gives up an index of which nobody pulled a platform, and a platform of
// which nobody pulled a layer.
func (j *jobs) expire(k content, t *jobEntry) {
	j.lock()
	defer j.unlock()
	switch {
	case j.entries[k] != t:
	case t.state == jobWatching:
		j.remove(k, t, nil)
	case t.state == jobParked:
		j.log(slog.LevelInfo, "a copy that was parked for long is given up", "repository", k.repo, "digest", k.digest.String(), "err", t.job.Error)
		j.remove(k, t, nil)
		j.wake(k)
	case t.state == jobWaiting && j.childComes(t): // the upstream or the disk takes its time
		t.timer = time.AfterFunc(j.e.limits.Wait, func() { j.expire(k, t) })
	case t.state == jobWaiting:
		j.log(slog.LevelInfo, "no platform of an index was pulled; its copy is given up", "repository", k.repo, "digest", k.digest.String())
		j.remove(k, t, nil)
		j.wake(k)
	}
}

// childComes reports whether a manifest that an index names is on its way by
// itself. j.mu is held.
func (j *jobs) childComes(t *jobEntry) bool {
	return slices.ContainsFunc(t.parsed.Children(), func(d ocispec.Descriptor) bool {
		child := j.entries[content{t.job.Repository, d.Digest}]
		return child != nil && child.live()
	})
}

// pause tries a job again later. j.mu is held.
func (j *jobs) pause(t *jobEntry, left time.Duration) {
	t.state = jobPaused
	t.timer = time.AfterFunc(left, func() { j.retry(t) })
}

// retry queues a job again.
func (j *jobs) retry(t *jobEntry) {
	j.lock()
	defer j.unlock()
	if j.entries[t.key()] == t && (t.state == jobPaused || t.state == jobSubmitted) {
		j.start(t)
	}
}

// start queues a job. j.mu is held.
func (j *jobs) start(t *jobEntry) {
	j.unpark(t)
	t.job.Watch, t.job.Parked = false, false
	t.state = jobQueued
	j.serial++
	t.serial = j.serial
	rule := t.job.Source.Rule
	j.queues[rule] = append(j.queues[rule], t)
	j.dispatch()
}

// remove forgets a job. j.mu is held.
func (j *jobs) remove(k content, t *jobEntry, err error) {
	j.unpark(t)
	t.state = ""
	t.last = err
	delete(j.entries, k)
	j.ends++
	j.lastEnd.Put(k, j.ends, 1)
	j.bytes -= t.man.cost()
	h := j.rules[t.job.Source.Rule]
	h.bytes -= t.man.cost()
	if h.copies--; h.copies == 0 {
		delete(j.rules, t.job.Source.Rule)
	}
	delete(j.repos[k.repo], k)
	if len(j.repos[k.repo]) == 0 {
		delete(j.repos, k.repo)
	}
	j.save(k)
	close(t.done)
}

// fail tells who waits that it did not work yet. j.mu is held.
func (t *jobEntry) fail() {
	close(t.done)
	t.done = make(chan struct{})
}
