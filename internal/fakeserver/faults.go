package fakeserver

import "sync"

// Faults is what goes wrong: a list, of which the first that fits a request
// happens. Its zero value is an empty list. Its methods are safe for concurrent
// use.
type Faults[T any] struct {
	mu   sync.Mutex
	list []*fault[T]
}

type fault[T any] struct {
	what  T
	times int // 0 or less: always
	done  int
}

// Fail adds a fault that happens that many times. If times is 0, it happens until
// Heal.
func (f *Faults[T]) Fail(what T, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, &fault[T]{what: what, times: times})
}

// Heal removes all faults.
func (f *Faults[T]) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
}

// Next is the first fault that fits and has not happened as often as it should;
// it counts as having happened. If there is none, it is the zero T.
func (f *Faults[T]) Next(fits func(T) bool) (what T, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.list {
		if one.times > 0 && one.done >= one.times || !fits(one.what) {
			continue
		}
		one.done++
		return one.what, true
	}
	return what, false
}
