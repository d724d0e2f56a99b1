package flight

import (
	"context"
	"sync"
)

// slots bounds downloads per host and in all. Those that only a copy waits for
// may take half of each, so that clients always find a place.
type slots struct {
	total, perHost int

	mu      sync.Mutex
	used    map[string]use // by host; "" for all
	waiting []*turn        // in order
}

// use counts the places taken, and how many of them by copies.
type use struct{ all, jobs int }

// turn is one who waits.
type turn struct {
	host string
	job  bool
	ok   chan struct{} // closed when it has its place
}

// acquire waits for a place at host. It is a copy's until promoted is closed.
// The place is given back by the returned function.
func (s *slots) acquire(ctx context.Context, host string, job bool, promoted <-chan struct{}) (release func(), err error) {
	t := &turn{host: host, job: job, ok: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, t)
	s.dispatch()
	s.mu.Unlock()
	for {
		select {
		case <-t.ok:
			return func() { s.release(t) }, nil
		case <-promoted:
			promoted = nil
			s.promote(t)
		case <-ctx.Done():
			if s.abandon(t) {
				return nil, context.Cause(ctx)
			}
			return func() { s.release(t) }, nil
		}
	}
}

// dispatch gives places to all who can have one. s.mu is held.
func (s *slots) dispatch() {
	if s.used == nil {
		s.used = map[string]use{}
	}
	rest := s.waiting[:0]
	for _, t := range s.waiting {
		all, host := s.used[""], s.used[t.host]
		free := all.all < s.total && host.all < s.perHost
		if t.job {
			free = free && all.jobs < max(1, s.total/2) && host.jobs < max(1, s.perHost/2)
		}
		if !free {
			rest = append(rest, t)
			continue
		}
		s.count(t, 1)
		close(t.ok)
	}
	clear(s.waiting[len(rest):])
	s.waiting = rest
}

func (s *slots) count(t *turn, n int) {
	for _, key := range [2]string{"", t.host} {
		u := s.used[key]
		u.all += n
		if t.job {
			u.jobs += n
		}
		if u == (use{}) {
			delete(s.used, key)
			continue
		}
		s.used[key] = u
	}
}

// promote makes a copy's turn a client's.
func (s *slots) promote(t *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-t.ok: // it keeps the copy's place
	default:
		t.job = false
		s.dispatch()
	}
}

// abandon takes t out of the queue; false: it got its place meanwhile.
func (s *slots) abandon(t *turn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.waiting {
		if w == t {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func (s *slots) release(t *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(t, -1)
	s.dispatch()
}
