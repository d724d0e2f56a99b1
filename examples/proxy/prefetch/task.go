// Package prefetch copies lists of images before anybody pulls them: at the start, and again
// by a schedule, so that a tag that has moved is here before the morning.
package prefetch

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Image is an image that is copied.
type Image struct {
	Repository string // local name
	Reference  string // tag or digest
	// Platforms are those of an index that are copied, as in cache.PrefetchOptions. If nil,
	// all.
	Platforms []string
}

// String returns REPOSITORY:TAG or REPOSITORY@DIGEST.
func (i Image) String() string {
	if strings.Contains(i.Reference, ":") {
		return i.Repository + "@" + i.Reference
	}
	return i.Repository + ":" + i.Reference
}

// Task is a list of images with the times at which they are copied. The first time is when
// the task is set.
type Task struct {
	Images []Image
	// Schedule says when they are copied again. If nil, never.
	Schedule Schedule
	// Jitter puts each time but the first off by a part of it that differs each time, so
	// that not all caches ask at once. If not positive, nothing is put off.
	Jitter time.Duration
}

// Schedule returns the next time after one at which a task began, which is later than now.
// Its String tells two schedules apart. An implementation must be safe for concurrent use.
type Schedule interface {
	fmt.Stringer
	Next(begun, now time.Time) time.Time
}

// Every is a Schedule with a fixed time between two times.
type Every time.Duration

// Next returns the next time. Times that have passed since are left out.
func (e Every) Next(begun, now time.Time) time.Time {
	next := begun.Add(time.Duration(e))
	if late := now.Sub(next); late >= 0 {
		next = next.Add((late/time.Duration(e) + 1) * time.Duration(e))
	}
	return next
}

// String returns "every" and the time.
func (e Every) String() string { return "every " + time.Duration(e).String() }

// Daily is a Schedule with one time on each day, in local time.
type Daily struct{ Hour, Minute int }

// Next returns the next time.
func (d Daily) Next(_, now time.Time) time.Time {
	next := time.Date(now.Year(), now.Month(), now.Day(), d.Hour, d.Minute, 0, 0, now.Location())
	if !next.After(now) {
		next = time.Date(now.Year(), now.Month(), now.Day()+1, d.Hour, d.Minute, 0, 0, now.Location())
	}
	return next
}

// String returns "daily at" and the time.
func (d Daily) String() string { return fmt.Sprintf("daily at %02d:%02d", d.Hour, d.Minute) }

// next returns the next time of a task, put off by its jitter. It is the zero time if there
// is none.
func (t Task) next(begun, now time.Time) time.Time {
	if t.Schedule == nil {
		return time.Time{}
	}
	next := t.Schedule.Next(begun, now)
	if t.Jitter > 0 {
		next = next.Add(rand.N(t.Jitter))
	}
	return next
}

// key is equal for equal tasks.
func (t Task) key() string {
	var b strings.Builder
	for _, i := range t.Images {
		fmt.Fprintf(&b, "%q %q %q\n", i.Repository, i.Reference, i.Platforms)
	}
	fmt.Fprintf(&b, "%v %v", t.Schedule, t.Jitter)
	return b.String()
}
