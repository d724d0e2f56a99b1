package ledger

import "log/slog"

// held is what one rule has of the jobs that are known.
type held struct {
	jobs  int
	bytes int64 // that their manifests take
}

// weight tells what is held of both.
func (h *held) weight() int64 { return h.bytes + int64(h.jobs)<<10 }

// hold counts an entry that came (n is 1) or went (n is -1). l.mu is held.
func (l *Ledger) hold(e *entry, n int) {
	rule, cost := e.job.Source.Rule, int64(n)*e.man.Cost()
	h := l.rules[rule]
	if h == nil {
		h = &held{}
		l.rules[rule] = h
	}
	l.bytes += cost
	h.bytes += cost
	if h.jobs += n; h.jobs == 0 {
		delete(l.rules, rule)
	}
}

// room reports whether a job of a rule may be added, whose manifest takes that many
// bytes. The rule that has most makes room. l.mu is held.
func (l *Ledger) room(rule string, cost int64) bool {
	fits := func() bool {
		return len(l.entries) < l.cfg.Most && (l.bytes == 0 || l.bytes+cost <= l.cfg.Memory)
	}
	for !fits() {
		other := l.spare(rule)
		if other == nil {
			break
		}
		level := slog.LevelError
		if other.state == Watching || other.sending {
			level = slog.LevelDebug // nobody asked for it, or it is done
		}
		l.log(level, "a copy job makes room for others and is given up", "state", string(other.state), "repository", other.job.Repository, "digest", other.job.Digest.String())
		l.remove(other, ErrTooMany)
	}
	if fits() {
		l.crowded = false
		return true
	}
	if !l.crowded {
		l.log(slog.LevelError, "too many copy jobs are known; new ones are dropped, and the next pull asks for them again", "copies", len(l.entries), "bytes", l.bytes)
	}
	l.crowded = true
	l.dropped.Add(1)
	return false
}

// spare returns the entry that makes room for one of the newcomer's rule; nil if none
// does. l.mu is held.
func (l *Ledger) spare(newcomer string) *entry {
	largest := ""
	for rule, h := range l.rules {
		if largest == "" || h.weight() > l.rules[largest].weight() {
			largest = rule
		}
	}
	sending := func(e *entry) bool { return e.sending && e.job.Source.Rule == largest }
	if e := l.oldest(sending); e != nil {
		return e
	}
	if e := l.oldest(func(e *entry) bool { return e.sending }); e != nil {
		return e
	}
	for _, rule := range []string{largest, newcomer} {
		for _, state := range []State{Parked, Watching} {
			if e := l.oldest(func(e *entry) bool { return e.state == state && e.job.Source.Rule == rule }); e != nil {
				return e
			}
		}
	}
	own := l.rules[newcomer]
	if largest == newcomer || own != nil && own.jobs+1 >= l.rules[largest].jobs && own.bytes >= l.rules[largest].bytes {
		return nil // it would be the largest then
	}
	return l.newest(largest)
}

// newest returns the newest entry of a rule that waits for its turn or for others; nil
// if none does. l.mu is held.
func (l *Ledger) newest(rule string) (newest *entry) {
	for _, e := range l.entries {
		waits := e.state == Queued || e.state == Paused || e.state == Waiting
		if waits && e.job.Source.Rule == rule && (newest == nil || e.job.Created.After(newest.job.Created)) {
			newest = e
		}
	}
	return newest
}

// oldest returns the oldest entry of those that match; nil if there is none. l.mu is held.
func (l *Ledger) oldest(match func(*entry) bool) (oldest *entry) {
	for _, e := range l.entries {
		if match(e) && (oldest == nil || e.job.Created.Before(oldest.job.Created)) {
			oldest = e
		}
	}
	return oldest
}
