package cache

import "log/slog"

// held is what one rule has of the copies that are known.
type held struct {
	copies int
	bytes  int64 // that their manifests take
}

// weight tells what is held of both.
func (h *held) weight() int64 { return h.bytes + int64(h.copies)<<10 }

// room reports whether a job may be added, whose manifest takes that many bytes. The
// rule that has most makes room. j.mu is held.
func (j *jobs) room(job Job, cost int64) bool {
	l := j.e.limits
	fits := func() bool {
		return len(j.entries) < l.Queue && (j.bytes == 0 || j.bytes+cost <= l.ManifestMemory)
	}
	for !fits() {
		other := j.spare(job.Source.Rule)
		if other == nil {
			break
		}
		level := slog.LevelError
		if other.state == jobWatching {
			level = slog.LevelDebug // nobody asked for it
		}
		j.log(level, "a "+string(other.state)+" copy makes room for others and is given up", "repository", other.job.Repository, "digest", other.job.Digest.String())
		j.remove(other.key(), other, ErrTooManyCopies)
	}
	if fits() {
		j.dropped = false
		return true
	}
	if !j.dropped {
		j.log(slog.LevelError, "too many copies are known; new ones are dropped until the next pull", "copies", len(j.entries), "bytes", j.bytes)
	}
	j.dropped = true
	j.e.stats.jobsDropped.Add(1)
	return false
}

// spare returns the copy that makes room for one of the newcomer's rule; nil: none
// does. j.mu is held.
func (j *jobs) spare(newcomer string) *jobEntry {
	largest := ""
	for rule, h := range j.rules {
		if largest == "" || h.weight() > j.rules[largest].weight() {
			largest = rule
		}
	}
	for _, rule := range []string{largest, newcomer} {
		for _, state := range []jobState{jobParked, jobWatching} {
			if t := j.oldest(rule, state); t != nil {
				return t
			}
		}
	}
	own := j.rules[newcomer]
	if largest == newcomer || own != nil && own.copies+1 >= j.rules[largest].copies && own.bytes >= j.rules[largest].bytes {
		return nil // it would be the largest then
	}
	return j.newest(largest)
}

// newest returns the newest copy of a rule that waits for its turn or for others; nil:
// none does. j.mu is held.
func (j *jobs) newest(rule string) (newest *jobEntry) {
	for _, t := range j.entries {
		waits := t.state == jobQueued || t.state == jobPaused || t.state == jobWaiting
		if waits && t.job.Source.Rule == rule && (newest == nil || t.job.Created.After(newest.job.Created)) {
			newest = t
		}
	}
	return newest
}

// oldest returns the oldest copy of a rule in a state; nil: none is. j.mu is held.
func (j *jobs) oldest(rule string, state jobState) (oldest *jobEntry) {
	for _, t := range j.entries {
		if t.state == state && t.job.Source.Rule == rule && (oldest == nil || t.job.Created.Before(oldest.job.Created)) {
			oldest = t
		}
	}
	return oldest
}
