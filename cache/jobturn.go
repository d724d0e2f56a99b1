package cache

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/internal/share"
)

// dispatch runs what is queued. j.mu is held.
func (j *jobs) dispatch() {
	for j.e.ctx.Err() == nil {
		t := j.next()
		if t == nil {
			return
		}
		t.state = jobRunning
		j.running[t.job.Source.Rule]++
		if !j.e.spawn(func() { j.run(t) }) {
			return // the next process takes it up
		}
	}
}

// next takes the job that comes next out of its queue, nil if none may: of the rule
// that runs fewest, the one that waits longest. A rule that is not alone leaves a
// quarter of the places to others. j.mu is held.
func (j *jobs) next() *jobEntry {
	all := 0
	for _, n := range j.running {
		all += n
	}
	if all >= j.e.limits.Jobs {
		return nil
	}
	var first *jobEntry
	for rule, queue := range j.queues {
		for len(queue) > 0 && queue[0].state != jobQueued { // it was removed
			queue = queue[1:]
		}
		if j.queues[rule] = queue; len(queue) == 0 {
			delete(j.queues, rule)
			continue
		}
		running := j.running[rule]
		if running >= share.Most(j.e.limits.Jobs) && len(j.rules) > 1 {
			continue
		}
		if first == nil || running < j.running[first.job.Source.Rule] ||
			running == j.running[first.job.Source.Rule] && queue[0].serial < first.serial {
			first = queue[0]
		}
	}
	if first != nil {
		rule := first.job.Source.Rule
		j.queues[rule] = j.queues[rule][1:]
	}
	return first
}

// slowJob is how little a running copy may bring in slowTime while others wait: it
// gives its place to them and goes on later.
const (
	slowJob  = 1 << 20
	slowTime = time.Minute
)

// errYield reports a copy that gave its place to others.
var errYield = errors.New("cache: the copy is slow and gave its place to others")

// patiently ends ctx when a job brings next to nothing while others wait.
func (j *jobs) patiently(ctx context.Context, t *jobEntry) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	before := int64(-1)
	var timer *time.Timer
	timer = time.AfterFunc(math.MaxInt64, func() {
		now := j.e.progress(t)
		j.lock()
		waiting := j.waiting()
		j.unlock()
		if waiting && before >= 0 && now-before < slowJob {
			cancel(errYield)
			return
		}
		before = now
		timer.Reset(slowTime)
	})
	timer.Reset(slowTime) // not before the variable is set, which the function reads
	return ctx, func() { timer.Stop(); cancel(nil) }
}

// waiting reports whether a copy waits for a place. j.mu is held.
func (j *jobs) waiting() bool {
	for _, queue := range j.queues {
		if slices.ContainsFunc(queue, func(t *jobEntry) bool { return t.state == jobQueued }) {
			return true
		}
	}
	return false
}

// progress counts the bytes of a job's blobs that are here.
func (e *engine) progress(t *jobEntry) (n int64) {
	p := place{repo: t.job.Repository}
	for _, d := range t.parsed.Blobs() {
		n += e.flying(t.job, p, d)
	}
	return n
}
