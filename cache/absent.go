package cache

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
)

// A digest that an upstream does not have is not asked for without end: once it has
// said so absentTimes within absentTime, that is the answer for as long again. A client
// that looks, pushes and looks again sees what was pushed; one that asks in a loop costs
// the upstream a few requests per second.
const (
	absentTime  = time.Second
	absentTimes = 3
)

// absentKey is a digest as a rule asks for it.
type absentKey struct {
	named
	kind       kind
	generation uint64
}

// absence is the upstream's word that it does not have something.
type absence struct {
	until time.Time
	times int
	err   error
}

func (p place) absentKey(k kind, d digest.Digest) absentKey {
	return absentKey{p.of(content{p.repo, d}), k, p.match.Generation}
}

// noteAbsent remembers for a moment that the upstream does not have a digest.
func (e *engine) noteAbsent(p place, k kind, d digest.Digest, err error) {
	if class, ok := upstream.ClassOf(err); !ok || class != upstream.NotFound {
		return
	}
	now := time.Now()
	e.absent.Update(p.absentKey(k, d), func(a absence, _ bool) (absence, int64, bool) {
		if !now.Before(a.until) {
			a.times = 0
		}
		return absence{now.Add(absentTime), a.times + 1, err}, 1, true
	})
}

// absentNow is what the upstream has just said of a digest again and again, if it was
// that it does not have it.
func (e *engine) absentNow(p place, k kind, d digest.Digest) error {
	a, ok := e.absent.Get(p.absentKey(k, d))
	if ok && a.times >= absentTimes && time.Now().Before(a.until) {
		return a.err
	}
	return nil
}
