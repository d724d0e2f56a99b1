package cache

import (
	"context"
	"time"
)

// Retry tries the copies of a tag or digest again that are parked or paused, or
// with an empty reference all of the repository, or with an empty repository
// all. Their failures are forgotten. It returns how many there are, and does not
// wait for them.
func (c *Cache) Retry(ctx context.Context, repository, reference string) (int, error) {
	e := c.engine()
	if repository != "" {
		p, err := e.locate(ctx, repository)
		if err != nil {
			return 0, p.fail(kindManifest, reference, err)
		}
		repository = p.repo
	}
	j := &e.jobs
	select { // what a former process left counts too
	case <-j.resumed:
	case <-e.ctx.Done():
		return 0, place{repo: repository}.fail(kindManifest, reference, errShutdown)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	j.lock()
	defer j.unlock()
	n := 0
	for k, t := range j.entries {
		if (repository == "" || k.repo == repository) && (reference == "" || t.about(reference)) && t.again() {
			j.start(t)
			j.save(k)
			n++
		}
	}
	return n, nil
}

// again makes a job that failed as good as new, and reports whether it had.
func (t *jobEntry) again() bool {
	if t.state != jobParked && t.state != jobPaused {
		return false
	}
	t.failures, t.last = 0, nil
	t.job.Attempts, t.job.Next, t.job.Error = 0, time.Time{}, ""
	return true
}

// about reports whether a job copies what a tag or digest stands for.
func (t *jobEntry) about(reference string) bool {
	if t.job.Digest.String() == reference {
		return true
	}
	for _, s := range t.job.Tags {
		if s.Tag == reference {
			return true
		}
	}
	return false
}
