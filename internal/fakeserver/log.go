package fakeserver

import (
	"context"
	"sync"
)

// Log keeps what a fake was asked, in order. Its zero value is an empty log. Its
// methods are safe for concurrent use.
type Log[T any] struct {
	mu      sync.Mutex
	entries []*T
	changed chan struct{} // closed when something changes; nil if nobody waits
}

// Add adds an entry. The function that it returns changes that entry, also after
// a Reset.
func (l *Log[T]) Add(entry T) (edit func(change func(*T))) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := &entry
	l.entries = append(l.entries, kept)
	l.wake()
	return func(change func(*T)) {
		l.mu.Lock()
		defer l.mu.Unlock()
		change(kept)
		l.wake()
	}
}

// wake lets Wait look again. The caller holds mu.
func (l *Log[T]) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// All returns the entries as they are now.
func (l *Log[T]) All() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all()
}

// all is All. The caller holds mu.
func (l *Log[T]) all() []T {
	var all []T
	for _, e := range l.entries {
		all = append(all, *e)
	}
	return all
}

// Lines returns a line for each entry, as [Complaints.Want] compares them.
func (l *Log[T]) Lines(line func(T) string) []string {
	var lines []string
	for _, e := range l.All() {
		lines = append(lines, line(e))
	}
	return lines
}

// Count counts the entries that fit.
func (l *Log[T]) Count(fits func(T) bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if fits(*e) {
			n++
		}
	}
	return n
}

// Reset forgets the entries.
func (l *Log[T]) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = nil
}

// Wait returns when count, which is given all entries, is at least n, or with the
// cause why ctx ended. It returns the last count.
func (l *Log[T]) Wait(ctx context.Context, n int, count func([]T) int) (got int, err error) {
	for {
		l.mu.Lock()
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		all, changed := l.all(), l.changed
		l.mu.Unlock()
		if got = count(all); got >= n {
			return got, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return got, context.Cause(ctx)
		}
	}
}
